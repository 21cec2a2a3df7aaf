"""What every test can ask for, and the option of the whole campaign. The local cluster comes from `tests.clusters`."""

import pytest

pytest_plugins = ["tests.clusters"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--campaign`."""
    parser.addoption("--campaign", action="store_true", help="all that `make campaign` tests, into benchmarks/results")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "campaign: only in the whole campaign, `make campaign` (pytest --campaign)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long ones out of a plain run."""
    if not config.getoption("--campaign"):
        left = [item for item in items if item.get_closest_marker("campaign") is not None]
        items[:] = [item for item in items if item not in left]
        config.hook.pytest_deselected(items=left)


@pytest.fixture(scope="session")
def is_campaign(pytestconfig: pytest.Config) -> bool:
    """Whether this run is the whole campaign."""
    return bool(pytestconfig.getoption("--campaign"))
