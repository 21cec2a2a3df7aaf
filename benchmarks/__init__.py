"""Every figure that the README quotes, with the command that measures it: `python -m benchmarks.NAME [--json FILE]`."""
