"""The one error of this room."""

__all__ = ["ReportError"]


class ReportError(ValueError):
    """A study can't be reported; the message says what was expected, what came, what to do."""
