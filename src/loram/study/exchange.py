"""Would other magnitudes have predicted the results as well? A test of the principle.

Each method has a curve of its own from the learning rate to ν[W_LoRA]. If what a method's updates
come to says nothing of its results, then any method's curve serves any other as well: the curves
are exchanged between methods at random, and the results predicted again. The share of exchanges
that predict as well as the true ones is p (a permutation test; Fisher, The Design of Experiments,
1935). It is exact for any noise and number of methods, if methods are exchangeable: among many
variants of one method, which have much the same curve and results for whatever reason, p is too
small.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice, permutations
from math import factorial
from typing import NamedTuple

import numpy as np

from loram.study.point import Point
from loram.study.smooth import left_out, r2

__all__ = ["Exchange", "exchange"]

_FEWEST_METHODS = 4  # three have 6 orders: p can't be below 0.17
_DRAWS = 499  # beyond them p is known well enough
_SQUARE = 2.0  # d log ν / d log lr where a method has one rate only: updates grow as the rate


class Exchange(NamedTuple):
    """The test's outcome.

    Attributes:
        own: R² of the true order, at the ranks that all methods have.
        exchanged: median of the R² that exchanged magnitudes come to.
        p: share of the exchanges, the true order included, that predict as well as it.
    """

    own: float
    exchanged: float
    p: float


def exchange(points: Sequence[Point]) -> Exchange | None:
    """Test whether methods' own magnitudes predict better than each other's.

    All orders are tried where they are few, else 499 at random, the same every time. Of several
    ranks those are taken that all methods have.

    Args:
        points: runs of one task.

    Returns:
        None below four methods, without a rank that all have, or if the metric is constant.
    """
    labels = list(dict.fromkeys(point.label for point in points))
    kept = _shared(points, labels)
    y = np.array([point.metric for point in kept])
    if len(labels) < _FEWEST_METHODS or not kept or np.ptp(y) == 0:
        return None
    owner = np.array([labels.index(point.label) for point in kept])
    curves = _curves(kept)
    # What each method's updates would come to in each run, (methods, runs).
    update = np.array([[curves[label, p.rank](p.lr) for p in kept] for label in labels])

    def share(order: Sequence[int]) -> float:
        x = update[np.asarray(order)[owner], np.arange(len(kept))]
        return r2(y, left_out(x, y, owner)[0])

    own, *others = (share(order) for order in _orders(len(labels)))
    # Equal up to rounding counts as well predicted: methods may share a curve.
    as_well = sum(each >= own - 1e-9 for each in others)
    return Exchange(own, float(np.median(others)), (1 + as_well) / (1 + len(others)))


def _shared(points: Iterable[Point], labels: Sequence[str]) -> list[Point]:
    """Runs at ranks that every method has."""
    having = {(point.label, point.rank) for point in points}
    return [p for p in points if all((label, p.rank) in having for label in labels)]


def _orders(methods: int) -> Iterable[Sequence[int]]:
    """The true order first."""
    yield range(methods)
    if factorial(methods) - 1 <= _DRAWS:
        yield from islice(permutations(range(methods)), 1, None)
    else:
        generator = np.random.default_rng(0)
        yield from (generator.permutation(methods).tolist() for _ in range(_DRAWS))


def _curves(points: Iterable[Point]) -> Mapping[tuple[str, int], Callable[[float], float]]:
    """log₁₀ ν over the rate, by method and rank r: through the mean at each rate, and beyond."""
    runs: dict[tuple[str, int], list[Point]] = {}
    for point in points:
        runs.setdefault((point.label, point.rank), []).append(point)
    return {key: _curve(own) for key, own in runs.items()}


def _curve(points: Sequence[Point]) -> Callable[[float], float]:
    at = np.round([np.log10(point.lr) for point in points], 6)
    update = np.log10([point.update for point in points])
    x = np.unique(at)
    y = np.array([update[at == each].mean() for each in x])
    slopes = np.diff(y) / np.diff(x) if len(x) > 1 else np.array([_SQUARE])

    def value(lr: float) -> float:
        here = float(np.log10(lr))
        inside = float(np.interp(here, x, y))
        return inside + slopes[0] * min(here - x[0], 0) + slopes[-1] * max(here - x[-1], 0)

    return value
