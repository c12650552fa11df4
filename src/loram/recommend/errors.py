"""The errors of this room."""

__all__ = ["LeakError", "RecommendError"]


class RecommendError(ValueError):
    """The input can't be used; the message says what was expected, what came, what to do."""


class LeakError(RecommendError):
    """What a model is judged by can be seen in what it learns from or reads."""
