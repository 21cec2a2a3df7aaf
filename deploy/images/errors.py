"""What can go wrong with an image, as one exception whose text tells the user what to do. Nothing else belongs here."""


class ImageError(Exception):
    """An image cannot be built, loaded or pushed. The text names cause, value and, where there is one, the log."""
