"""A study as the statistics see it: what was asked for, and the runs that belong to it."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from loram.study import grid
from loram.study.record import Record

__all__ = ["Better", "Design", "Results", "Run", "same_rate", "score"]

Better = Literal["high", "low"]


class Run(NamedTuple):
    """A record, and the names that the study gives its method and its task.

    Attributes:
        label: of the method.
        task: label of the task.
        record: what came of it.
        roles: what the study's plan wants it for (tuning, final, recipe); None without a plan.
    """

    label: str
    task: str
    record: Record
    roles: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Design:
    """What of a study's settings the statistics need.

    Attributes:
        name: of the study.
        labels: of its methods, in its order.
        tasks: labels of its tasks.
        ranks: likewise.
        seeds: of the runs that are reported.
        tuning_seeds: of the runs that the learning rate is chosen by.
        low: first rate of the grid as asked for, which a sweep may have extended; None if the study
            has no sweep.
        high: last rate of the grid; None likewise.
        per_decade: points of the grid, which are 10^(k / per_decade).
        recipe: fixed rates that every method was run at beside its sweep.
        pairs: labels of methods to compare besides, the first with the second.
    """

    name: str
    labels: tuple[str, ...]
    tasks: tuple[str, ...]
    ranks: tuple[int, ...]
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    low: float | None
    high: float | None
    per_decade: int = 4
    recipe: tuple[float, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()

    def grid(self) -> tuple[float, ...]:
        """Rates that were asked for, without extensions."""
        if self.low is None or self.high is None:
            return ()
        return tuple(
            grid.rate(k, self.per_decade) for k in grid.points(self.low, self.high, self.per_decade)
        )

    def tunes(self, run: Run) -> bool:
        """Whether the learning rate is chosen by this run."""
        if run.roles is not None:
            return "tuning" in run.roles
        return run.record.seed in self.tuning_seeds and self.on_grid(run.record.lr)

    def on_grid(self, lr: float) -> bool:
        """Whether a rate is a point of the grid or of its extensions."""
        if self.low is None:
            return False
        k = math.log10(lr) * self.per_decade
        return abs(k - round(k)) < 1e-6


@dataclass(frozen=True, slots=True)
class Results:
    """A design and its runs, one of a kind: no two of equal label, task, rank, rate and seed."""

    design: Design
    runs: tuple[Run, ...]

    def blocks(self) -> list[tuple[str, int]]:
        """(task, rank) of which there are runs, in the design's order."""
        found = {(run.task, run.record.rank) for run in self.runs}
        return [(t, r) for t in self.design.tasks for r in self.design.ranks if (t, r) in found]

    def block(self, task: str, rank: int) -> list[Run]:
        """Runs of one task and rank."""
        return [run for run in self.runs if (run.task, run.record.rank) == (task, rank)]

    def labels(self, runs: Iterable[Run]) -> Iterator[tuple[str, list[Run]]]:
        """These runs by method, in the design's order; methods without any are left out."""
        by_label: dict[str, list[Run]] = {}
        for run in runs:
            by_label.setdefault(run.label, []).append(run)
        return ((label, by_label[label]) for label in self.design.labels if label in by_label)


def same_rate(first: float, second: float) -> bool:
    """Whether two learning rates are one, up to how they were written down."""
    return math.isclose(first, second, rel_tol=1e-6)


def score(record: Record, split: Literal["validation", "test"]) -> float | None:
    """The task's main metric of a run; None unless the run is done and the metric a number."""
    if record.status != "done":
        return None
    value = getattr(record, split).get(record.metric)
    return value if value is not None and math.isfinite(value) else None
