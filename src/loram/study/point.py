"""A run as the questions about magnitude see it."""

from typing import NamedTuple

__all__ = ["Point"]


class Point(NamedTuple):
    """A run that is done.

    Attributes:
        label: of the method.
        rank: r.
        lr: positive.
        update: ν[W_LoRA] after training, positive.
        metric: on test.
    """

    label: str
    rank: int
    lr: float
    update: float
    metric: float
