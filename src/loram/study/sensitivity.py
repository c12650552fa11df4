"""How much the learning rate matters to a method: the width of the range of good rates."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from loram.study.choice import best, tried
from loram.study.results import Better
from loram.study.select import sign

__all__ = ["TOLERANCE", "Slope", "Width", "slope_over_ranks", "width"]

TOLERANCE = 0.02


class Width(NamedTuple):
    """The range of rates around a method's best whose metric is within the tolerance of it.

    Attributes:
        decades: log10(high / low).
        low: its lower end.
        high: its upper end.
        open_low: the grid ends before the range does, so that it is wider than said.
        open_high: likewise above.
    """

    decades: float
    low: float
    high: float
    open_low: bool
    open_high: bool


def width(
    lrs: Sequence[float],
    values: Sequence[float | None],
    better: Better,
    tolerance: float = TOLERANCE,
) -> Width | None:
    """Width of the connected range of rates around the best one.

    Within the tolerance is not worse than the best by more than `tolerance`·|best|, so that
    accuracies, correlations (also negative ones) and losses have one rule; at a best of exactly 0
    only equals are within. Between points of the grid the metric is linear in log lr.
    A diverged point is outside, and nothing is interpolated towards it: the range ends at the last
    point before it.

    Args:
        lrs: ascending.
        values: metric at each; None where it diverged or is missing.
        better: whether more or less is.
        tolerance: relative to |best|.

    Returns:
        None if no point has a value.
    """
    signed = [None if v is None or not math.isfinite(v) else sign(better) * v for v in values]
    known = [(v, -index) for index, v in enumerate(signed) if v is not None]
    if not known:
        return None
    top, where = max(known)
    floor = top - tolerance * abs(top)
    logs = [math.log10(lr) for lr in lrs]
    low, open_low = _end(logs, signed, -where, floor, -1)
    high, open_high = _end(logs, signed, -where, floor, 1)
    return Width(high - low, 10**low, 10**high, open_low, open_high)


def _end(
    logs: Sequence[float], signed: Sequence[float | None], start: int, floor: float, step: int
) -> tuple[float, bool]:
    """log10 of the range's end in one direction, and whether the grid ended first."""
    at = start
    while 0 <= at + step < len(logs):
        here, there = signed[at], signed[at + step]
        assert here is not None  # the walk goes over known points only
        if there is None:
            return logs[at], False
        if there < floor:
            share = (here - floor) / (here - there)
            return logs[at] + share * (logs[at + step] - logs[at]), False
        at += step
    return logs[at], True


class Slope(NamedTuple):
    """d log(best lr) / d log(rank), with the bounds of a bootstrap over tuning seeds."""

    slope: float
    low: float | None
    high: float | None


def slope_over_ranks(
    ranks: Sequence[int],
    lrs: Sequence[Sequence[float]],
    values: Sequence[np.ndarray],
    better: Better,
    *,
    resamples: int = 1000,
) -> Slope | None:
    """How a method's best rate moves with rank.

    Args:
        ranks: two or more.
        lrs: for each rank, the rates of its grid, ascending.
        values: for each rank, metric (rates, tuning seeds); NaN where there is none, infinite
            where a run diverged.
        better: whether more or less is.
        resamples: of the tuning seeds, the same for all ranks.

    Returns:
        None with fewer than two ranks that have a best rate; no bounds below two seeds.
    """

    def chosen(k: int, columns: np.ndarray | slice = slice(None)) -> int | None:
        signed = sign(better) * values[k][:, columns]
        return best([tried(row[~np.isnan(row)].tolist()) for row in signed])

    pairs = [(rank, k) for k, rank in enumerate(ranks) if chosen(k) is not None]
    if len(pairs) < 2:
        return None

    def fitted(columns: np.ndarray | slice) -> float:
        points: list[tuple[float, float]] = []
        for rank, k in pairs:
            at = chosen(k, columns)
            if at is not None:
                points.append((math.log10(rank), math.log10(lrs[k][at])))
        if len({x for x, _ in points}) < 2:
            return math.nan
        x, y = np.array(points).T
        return float(np.polyfit(x, y, 1)[0])

    point = fitted(slice(None))
    seeds = min(values[k].shape[1] for _, k in pairs)
    if seeds < 2:
        return Slope(point, None, None)
    generator = np.random.default_rng(0)
    found = [fitted(generator.integers(seeds, size=seeds)) for _ in range(resamples)]
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return Slope(point, float(low), float(high))
