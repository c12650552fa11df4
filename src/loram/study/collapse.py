"""Do all methods fall on one curve over the update's magnitude, or over the learning rate?

The magnitude principle says the first. It is tested by prediction: for each method in turn, a
smooth curve through the runs of all *other* methods predicts that method's runs, once from log
ν[W_LoRA] and once from log lr. The share of the metric's variance that is predicted, R², says which
of the two carries over between methods; it is below 0 where the overall mean would predict better.

Two things can then be claimed, by two tests. That magnitude carries over at all: `exchange`. That
it does so better than the rate: the jackknife over methods (Efron and Stein, Ann. Statist. 9, 1981)
with Student's distribution. Without a method the others' curves change too, which a bootstrap of
the methods' errors doesn't see.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from loram.study.exchange import Exchange, exchange
from loram.study.point import Point
from loram.study.smooth import fit, left_out, r2
from loram.study.statistics import ALPHA

__all__ = ["Advantage", "Collapse", "Explained", "Residual", "collapse"]

_FEWEST_METHODS = 4  # for bounds
_FEWEST_RUNS = 8


class Explained(NamedTuple):
    """How well one predictor carries over."""

    r2: float
    rmse: float


class Advantage(NamedTuple):
    """R² by ν[W_LoRA] minus R² by the rate; bounds by the jackknife, None below four methods."""

    r2: float
    low: float | None
    high: float | None


class Residual(NamedTuple):
    """A method's metric minus what the others' curve says at its magnitudes.

    Attributes:
        label: of the method.
        mean: over its runs, in the metric's own units and direction. No interval: seeds have
            unequal rates, those that tune the whole grid and the others its best.
        runs: how many.
    """

    label: str
    mean: float
    runs: int


class Collapse(NamedTuple):
    """The test's outcome.

    Attributes:
        runs: how many.
        methods: how many.
        by_update: prediction from log ν[W_LoRA].
        by_lr: prediction from log lr.
        advantage: of the first over the second.
        exchange: whether methods' own magnitudes predict better than each other's.
        residuals: from the first, by method in the order they came.
        curve: through all runs over ν[W_LoRA], for a picture.
    """

    runs: int
    methods: int
    by_update: Explained
    by_lr: Explained
    advantage: Advantage
    exchange: Exchange | None
    residuals: tuple[Residual, ...]
    curve: tuple[tuple[float, float], ...]


def collapse(points: Sequence[Point]) -> Collapse | None:
    """Test whether the metric is one function of the magnitude.

    Args:
        points: runs of one task.

    Returns:
        None below two methods or eight runs, or if the metric is the same in all of them.
    """
    labels = list(dict.fromkeys(point.label for point in points))
    y = np.array([point.metric for point in points])
    if len(labels) < 2 or len(points) < _FEWEST_RUNS or np.ptp(y) == 0:
        return None
    owner = np.array([labels.index(point.label) for point in points])
    update = np.log10([point.update for point in points])
    rate = np.log10([point.lr for point in points])
    by_update, bandwidth = left_out(update, y, owner)
    by_lr, _ = left_out(rate, y, owner)
    grid = np.linspace(update.min(), update.max(), 100)
    (curve,) = fit(grid, update, y, bandwidth)
    return Collapse(
        len(points),
        len(labels),
        _explained(y, by_update),
        _explained(y, by_lr),
        _advantage(r2(y, by_update) - r2(y, by_lr), update, rate, y, owner),
        exchange(points),
        tuple(_residual(label, points, by_update) for label in labels),
        tuple(zip((10**grid).tolist(), curve.tolist(), strict=True)),
    )


def _explained(y: np.ndarray, errors: np.ndarray) -> Explained:
    return Explained(r2(y, errors), float(np.sqrt(np.mean(errors**2))))


def _advantage(
    found: float, update: np.ndarray, rate: np.ndarray, y: np.ndarray, owner: np.ndarray
) -> Advantage:
    methods = np.unique(owner)
    without: list[float] = []
    for method in methods if len(methods) >= _FEWEST_METHODS else ():
        kept = owner != method
        if np.ptp(y[kept]) == 0:
            return Advantage(found, None, None)
        errors = (left_out(x[kept], y[kept], owner[kept])[0] for x in (update, rate))
        by_update, by_lr = (r2(y[kept], each) for each in errors)
        without.append(by_update - by_lr)
    if not without:
        return Advantage(found, None, None)
    n = len(without)
    error = float(np.sqrt((n - 1) * np.var(without)))
    reach = float(stats.t.ppf(1 - ALPHA / 2, n - 1)) * error
    return Advantage(found, found - reach, found + reach)


def _residual(label: str, points: Sequence[Point], errors: np.ndarray) -> Residual:
    own = errors[[point.label == label for point in points]]
    return Residual(label, float(own.mean()), len(own))
