"""What can be wrong with a benchmark that was asked for."""

__all__ = ["BenchError"]


class BenchError(ValueError):
    """It can't be measured; the message says what was expected and what to do."""
