"""The programs of artifact Jobs. Each is a process of its own that reads a model and ends with one word about it."""
