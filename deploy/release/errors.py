"""What can go wrong with a release, as one exception whose text tells what to do. Nothing else belongs here."""


class ReleaseError(Exception):
    """A release cannot be built. The text names path, value and what it must be."""
