"""The first process of an engine container: starts vLLM, times its start, and says why it ended."""
