"""Which learning rate of a grid is a method's best, and whether the grid ends there.

One rule, for the sweep that asks for runs and for the report that reads them.
"""

from collections.abc import Sequence
from math import isfinite
from statistics import fmean
from typing import Literal, NamedTuple

__all__ = ["Edge", "Tried", "best", "edge", "tried"]

Edge = Literal["low", "high"]


class Tried(NamedTuple):
    """A learning rate, as the tuning seeds found it.

    Attributes:
        score: mean validation metric of the seeds that are done, signed so that more is better;
            None if there is none.
        done: seeds in it.
        diverged: seeds.
    """

    score: float | None
    done: int
    diverged: int


def tried(scores: Sequence[float]) -> Tried:
    """A rate by its seeds' scores, signed so that more is better; one not finite is divergence."""
    finite = [score for score in scores if isfinite(score)]
    return Tried(fmean(finite) if finite else None, len(finite), len(scores) - len(finite))


def best(rates: Sequence[Tried]) -> int | None:
    """Index of the best of ascending rates; ties go to the lower one.

    A rate at which any seed diverged is never it: divergence is the worst result there is. Nor is
    one that lacks a seed that another rate has: a mean without the seed that does worst everywhere
    is no better rate. None if that leaves nothing.
    """
    scores = _fit(rates)
    return max(scores, key=scores.__getitem__, default=None)


def edge(rates: Sequence[Tried], chosen: int) -> Edge | None:
    """The end of ascending rates that the best of them lies at; `low` if there is only one.

    None where another rate is as good that is at neither end, as all are of a method that learns
    nothing: there is no telling on which side the true optimum lies.
    """
    scores = _fit(rates)
    last = len(rates) - 1
    if any(scores.get(inner) == scores[chosen] for inner in range(1, last)):
        return None
    return "low" if chosen == 0 else "high" if chosen == last else None


def _fit(rates: Sequence[Tried]) -> dict[int, float]:
    """Score by index, ascending, of the rates that may be chosen."""
    whole = [rate for rate in rates if not rate.diverged]
    most = max((rate.done for rate in whole), default=0)
    return {
        index: rate.score
        for index, rate in enumerate(rates)
        if rate.score is not None and not rate.diverged and rate.done == most
    }
