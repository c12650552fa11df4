"""Which runs a task at a rank still needs, from the outcomes so far. Pure: no files, no clock.

Every method is run on one grid with the tuning seeds. While the best rate of any method lies at an
end of the grid, the grid of all of them grows there by a point: their budgets stay equal. Then the
best rate of each method is run with the other seeds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isnan
from statistics import fmean
from typing import Literal, NamedTuple

__all__ = ["Ask", "Edge", "Look", "Outcome", "State", "Sweep", "advance", "best"]

Edge = Literal["low", "high"]


class Ask(NamedTuple):
    """A run: method, point k of the grid, seed."""

    method: str
    k: int
    seed: int


class Outcome(NamedTuple):
    """What came of a run.

    Attributes:
        score: validation metric, signed so that more is better; −∞ of a run that diverged; None of
            one that failed, which says nothing of its method.
    """

    score: float | None


Look = Callable[[Ask], Outcome | None]
"""What came of a run; None if it is not done yet."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is asked of one task at one rank.

    Attributes:
        methods: labels.
        points: k of the grid as asked for.
        extend: points it may grow on each side.
        tuning_seeds: the rate is chosen by these.
        seeds: the best rate is run with these.
    """

    methods: tuple[str, ...]
    points: range
    extend: int
    tuning_seeds: tuple[int, ...]
    seeds: tuple[int, ...]


class State(NamedTuple):
    """Where a sweep stands.

    Attributes:
        stage: what the needed runs are for.
        needed: runs that are not done.
        points: k of the grid, grown so far.
        best: k by method; None of a method that no rate is fit for. Empty while tuning.
        edges: methods whose best lies at an end of a grid that grows no further there.
    """

    stage: Literal["tuning", "final", "done"]
    needed: tuple[Ask, ...]
    points: range
    best: dict[str, int | None]
    edges: dict[str, Edge]


def best(scores: dict[int, float]) -> int | None:
    """The k of the highest score, the lower k of equal ones; None if all are −∞ or NaN."""
    chosen: int | None = None
    top = -inf
    for k in sorted(scores):
        if scores[k] > top:  # never true of NaN
            chosen, top = k, scores[k]
    return chosen


def advance(sweep: Sweep, look: Look) -> State:
    """Where the sweep stands, and the runs it needs next.

    The answer depends on the outcomes alone: a study that was killed comes to the same state.
    """
    points = sweep.points
    while True:
        needed = tuple(
            ask
            for k in points
            for method in sweep.methods
            for seed in sweep.tuning_seeds
            if look(ask := Ask(method, k, seed)) is None
        )
        if needed:
            return State("tuning", needed, points, {}, {})
        means = {method: _means(sweep, method, points, look) for method in sweep.methods}
        chosen = {method: best(found) for method, found in means.items()}
        # A method that only failed has no best anywhere: no grid grows for it.
        sides: dict[str, Edge | None] = {
            method: _edge(k, points, means[method]) if means[method] else None
            for method, k in chosen.items()
        }
        grown = _grow(points, set(sides.values()), sweep)
        if grown == points:
            break
        points = grown
    edges: dict[str, Edge] = {}
    for method, side in sides.items():
        if side is not None:
            edges[method] = side
    needed = tuple(
        ask
        for seed in sweep.seeds
        for method, k in chosen.items()
        if k is not None and look(ask := Ask(method, k, seed)) is None
    )
    return State("final" if needed else "done", needed, points, chosen, edges)


def _means(sweep: Sweep, method: str, points: range, look: Look) -> dict[int, float]:
    """Mean score by k over the tuning seeds, of the rates at which fewest failed and none diverged.

    A mean without the seed that does worst everywhere is no better rate. What diverged is −∞.
    """
    found: dict[int, list[float]] = {}
    for k in points:
        outcomes = [look(Ask(method, k, seed)) for seed in sweep.tuning_seeds]
        found[k] = [
            -inf if isnan(each.score) else each.score
            for each in outcomes
            if each is not None and each.score is not None
        ]
    most = max((len(scores) for scores in found.values() if -inf not in scores), default=0)
    return {
        k: fmean(scores)
        for k, scores in found.items()
        if scores and (-inf in scores or len(scores) == most)
    }


def _edge(k: int | None, points: range, means: dict[int, float]) -> Edge | None:
    """The end that a best rate lies at; where every rate diverged, the best is lower still.

    None where another rate is as good that is at neither end, as all are of a method that learns
    nothing: there is no telling on which side the best one lies.
    """
    if k is None:
        return "low"
    if any(means.get(inner) == means[k] for inner in points[1:-1]):
        return None
    return "low" if k == points[0] else "high" if k == points[-1] else None


def _grow(points: range, sides: set[Edge | None], sweep: Sweep) -> range:
    low, high = points[0], points[-1]
    if "low" in sides and sweep.points[0] - low < sweep.extend:
        low -= 1
    if "high" in sides and high - sweep.points[-1] < sweep.extend:
        high += 1
    return range(low, high + 1)
