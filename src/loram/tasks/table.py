"""Placeholder."""

from loram.tasks.task import Request, Splits, Task

__all__ = ["TASKS"]


def _none(request: Request) -> Splits:
    raise NotImplementedError


TASKS = {"answers": Task("answers", "", "answers", "loss", "low", _none)}
