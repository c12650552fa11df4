"""The learning rate of each method, chosen by validation only."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np

from loram.study.record import Record
from loram.study.results import Better, Results, Run, same_rate, score

__all__ = ["Edge", "Rate", "Tuned", "best", "scores_at", "sign", "tuned"]

Edge = Literal["low", "high", "only"]


class Rate(NamedTuple):
    """A method at one rate of the grid.

    Attributes:
        lr: the rate.
        validation: mean over tuning seeds that are done; None if there is none.
        done: tuning seeds.
        diverged: tuning seeds.
    """

    lr: float
    validation: float | None
    done: int
    diverged: int


class Tuned(NamedTuple):
    """A method's sweep.

    Attributes:
        label: of the method.
        rates: ascending.
        lr: the best rate; None if none of them is free of divergence.
        validation: mean at that rate.
        edge: the end of the method's grid that the best rate is at, if any: the true optimum may
            lie beyond. `only` if the grid has a single rate.
    """

    label: str
    rates: tuple[Rate, ...]
    lr: float | None
    validation: float | None
    edge: Edge | None


def sign(better: Better) -> int:
    """1 if more is better, -1 if less is."""
    return 1 if better == "high" else -1


def best(rates: Iterable[Rate], better: Better) -> Rate | None:
    """The rate of the best mean; ties go to the lower one.

    A rate at which any tuning seed diverged is never chosen: divergence is the worst result there
    is. Nor is one that lacks a seed that another rate has: its mean is of other runs. None if that
    leaves nothing.
    """
    chosen: Rate | None = None
    top = -np.inf
    tried = sorted(rates)
    most = max((rate.done for rate in tried if not rate.diverged), default=0)
    for rate in tried:
        if rate.diverged or rate.validation is None or rate.done < most:
            continue
        if sign(better) * rate.validation > top:
            chosen, top = rate, sign(better) * rate.validation
    return chosen


def tuned(results: Results, task: str, rank: int) -> list[Tuned]:
    """Every method's sweep on one task and rank: runs that are there to tune by."""
    design = results.design
    found: list[Tuned] = []
    for label, runs in results.labels(results.block(task, rank)):
        rates = tuple(_rates([run.record for run in runs if design.tunes(run)]))
        winner = best(rates, runs[0].record.better)
        if winner is None:
            found.append(Tuned(label, rates, None, None, None))
        else:
            edge = _edge(rates, winner)
            found.append(Tuned(label, rates, winner.lr, winner.validation, edge))
    return found


def _edge(rates: tuple[Rate, ...], winner: Rate) -> Edge | None:
    # An end only if nothing was tried beyond it; a run that diverged there was a try.
    if len(rates) == 1:
        return "only"
    if any(not r.diverged and r.validation == winner.validation for r in rates[1:-1]):
        return None  # as good inside: nothing says that the optimum is beyond
    if winner.lr == rates[-1].lr:
        return "high"
    return "low" if winner.lr == rates[0].lr else None


def _rates(records: list[Record]) -> Iterable[Rate]:
    for lr in _distinct(record.lr for record in records):
        here = [record for record in records if same_rate(record.lr, lr)]
        values = [value for r in here if (value := score(r, "validation")) is not None]
        yield Rate(
            lr,
            float(np.mean(values)) if values else None,
            len(values),
            sum(r.status == "diverged" for r in here),
        )


def _distinct(rates: Iterable[float]) -> list[float]:
    found: list[float] = []
    for rate in sorted(rates):
        if not found or not same_rate(found[-1], rate):
            found.append(rate)
    return found


def scores_at(
    runs: Iterable[Run], lr: float, split: Literal["validation", "test"], seeds: Iterable[int]
) -> tuple[dict[int, float], list[int]]:
    """A method's metric by seed at one rate, and the seeds that diverged there."""
    wanted = set(seeds)
    here = [r.record for r in runs if same_rate(r.record.lr, lr) and r.record.seed in wanted]
    values = {r.seed: value for r in here if (value := score(r, split)) is not None}
    return values, sorted(r.seed for r in here if r.status == "diverged")
