"""What every test can ask for. The fixtures of the local cluster come from `tests.clusters`."""

pytest_plugins = ["tests.clusters"]
