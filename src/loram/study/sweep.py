"""Which runs a task at a rank still needs, from the outcomes so far. Pure: no files, no clock.

Every method is run on one grid with the tuning seeds. While the best rate of any method lies at an
end of the grid, the grid of all of them grows there by a point: their budgets stay equal. Then the
best rate of each method is run with the other seeds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from loram.study.choice import Edge, Tried, best, edge, tried

__all__ = ["Ask", "Look", "Outcome", "State", "Sweep", "advance"]


class Ask(NamedTuple):
    """A run: method, point k of the grid, seed."""

    method: str
    k: int
    seed: int


class Outcome(NamedTuple):
    """What came of a run.

    Attributes:
        score: validation metric, signed so that more is better; −∞ (or NaN) of a run that diverged;
            None of one that failed, which says nothing of its method.
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
        found = {
            method: [_tried(sweep, method, k, look) for k in points] for method in sweep.methods
        }
        indices = {method: best(rates) for method, rates in found.items()}
        sides: dict[str, Edge | None] = {
            method: _side(rates, indices[method]) for method, rates in found.items()
        }
        grown = _grow(points, set(sides.values()), sweep)
        if grown == points:
            break
        points = grown
    edges: dict[str, Edge] = {method: side for method, side in sides.items() if side is not None}
    chosen = {method: None if at is None else points[at] for method, at in indices.items()}
    needed = tuple(
        ask
        for seed in sweep.seeds
        for method, k in chosen.items()
        if k is not None and look(ask := Ask(method, k, seed)) is None
    )
    return State("final" if needed else "done", needed, points, chosen, edges)


def _tried(sweep: Sweep, method: str, k: int, look: Look) -> Tried:
    outcomes = [look(Ask(method, k, seed)) for seed in sweep.tuning_seeds]
    return tried([e.score for e in outcomes if e is not None and e.score is not None])


def _side(rates: list[Tried], chosen: int | None) -> Edge | None:
    """Where the grid should grow for a method: where every rate diverged, the best is lower still.

    A method that only failed has no best anywhere: no grid grows for it.
    """
    if chosen is None:
        return "low" if any(rate.diverged for rate in rates) else None
    return edge(rates, chosen)


def _grow(points: range, sides: set[Edge | None], sweep: Sweep) -> range:
    low, high = points[0], points[-1]
    if "low" in sides and sweep.points[0] - low < sweep.extend:
        low -= 1
    if "high" in sides and high - sweep.points[-1] < sweep.extend:
        high += 1
    return range(low, high + 1)
