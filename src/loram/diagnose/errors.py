"""The one error of this room."""

__all__ = ["DiagnoseError"]


class DiagnoseError(ValueError):
    """The target can't be diagnosed; the message says what was expected, what came, what to do."""
