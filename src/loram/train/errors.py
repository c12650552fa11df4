"""What can go wrong with a run."""

__all__ = ["DivergedError", "RunError"]


class RunError(RuntimeError):
    """The run can't go on; the message says why and what to do."""


class DivergedError(RunError):
    """Training left the finite numbers: a result of its settings, and the same when repeated.

    Attributes:
        step: after which it was seen.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step
