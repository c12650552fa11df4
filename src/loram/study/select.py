"""The learning rate of each method, chosen by validation only."""

from collections.abc import Iterable
from statistics import fmean
from typing import Literal, NamedTuple

from loram.study.choice import Edge, Tried, best, edge
from loram.study.record import Record
from loram.study.results import Better, Results, Run, same_rate, score

__all__ = ["End", "Rate", "Tuned", "scores_at", "sign", "tuned"]

End = Edge | Literal["only"]


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
    edge: End | None


def sign(better: Better) -> int:
    """1 if more is better, -1 if less is."""
    return 1 if better == "high" else -1


def tuned(results: Results, task: str, rank: int) -> list[Tuned]:
    """Every method's sweep on one task and rank: runs that are there to tune by."""
    design = results.design
    found: list[Tuned] = []
    for label, runs in results.labels(results.block(task, rank)):
        rates = tuple(_rates([run.record for run in runs if design.tunes(run)]))
        signed = sign(runs[0].record.better)
        tried = [
            Tried(None if r.validation is None else signed * r.validation, r.done, r.diverged)
            for r in rates
        ]
        chosen = best(tried)
        if chosen is None:
            found.append(Tuned(label, rates, None, None, None))
        else:
            end = "only" if len(rates) == 1 else edge(tried, chosen)
            found.append(Tuned(label, rates, rates[chosen].lr, rates[chosen].validation, end))
    return found


def _rates(records: list[Record]) -> Iterable[Rate]:
    for lr in _distinct(record.lr for record in records):
        here = [record for record in records if same_rate(record.lr, lr)]
        values = [value for r in here if (value := score(r, "validation")) is not None]
        yield Rate(
            lr,
            fmean(values) if values else None,
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
