"""Every figure of docs/figures.md, with the command that measures it: `python -m benchmarks.NAME [--json FILE]`."""
