"""What is wrong with data."""

__all__ = ["DataError"]


class DataError(ValueError):
    """The data can't be used as it is; the message says what was expected and what came."""
