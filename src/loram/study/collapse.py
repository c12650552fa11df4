"""Do all methods fall on one curve over the update's magnitude, or over the learning rate?

The magnitude principle says the first. It is tested by prediction: for each method in turn, a
smooth curve through the runs of all *other* methods predicts that method's runs, once from log
ν[W_LoRA] and once from log lr. The share of the metric's variance that is predicted, R², says which
of the two carries over between methods; it is below 0 where the overall mean would predict better.

The curve is a local linear fit with Gaussian weights, clamped to the range of the runs it is fitted
to. Its bandwidth is chosen for each of the two predictors by the same prediction error, so that
neither is favoured.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from loram.study.statistics import ALPHA

__all__ = ["Collapse", "Explained", "Point", "Residual", "collapse"]

_BANDWIDTHS = (0.03, 0.06, 0.12, 0.25, 0.5)  # of the predictor's range
_NEIGHBOURS = 4  # a bandwidth reaches at least so many runs
_FEWEST_METHODS = 4  # for bounds
_FEWEST_RUNS = 8
_RESAMPLES = 1000


class Point(NamedTuple):
    """A run that is done; `update` and `lr` are positive."""

    label: str
    lr: float
    update: float
    metric: float


class Explained(NamedTuple):
    """How well one predictor carries over; bounds by resampling methods, None below four."""

    r2: float
    low: float | None
    high: float | None
    rmse: float


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
        advantage: R² of the first minus that of the second.
        residuals: from the first, by method in the order they came.
        curve: through all runs over ν[W_LoRA], for a picture.
    """

    runs: int
    methods: int
    by_update: Explained
    by_lr: Explained
    advantage: Explained
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
    by_update, bandwidth = _left_out(update, y, owner)
    by_lr, _ = _left_out(rate, y, owner)
    grid = np.linspace(update.min(), update.max(), 100)
    smooth = _fit(grid, update, y, bandwidth)
    samples = _samples(len(labels))
    variants = [_r2(y, e, owner, samples) for e in (by_update, by_lr)]
    return Collapse(
        len(points),
        len(labels),
        _explained(variants[0], by_update),
        _explained(variants[1], by_lr),
        _explained(variants[0] - variants[1], by_update, by_lr),
        tuple(_residual(label, points, by_update) for label in labels),
        tuple(zip((10**grid).tolist(), smooth.tolist(), strict=True)),
    )


def _fit(at: np.ndarray, x: np.ndarray, y: np.ndarray, bandwidth: float) -> np.ndarray:
    """Local linear regression of y on x, at some points; x (n,), y (n,), at (q,) → (q,)."""
    at = np.clip(at, x.min(), x.max())
    offset = x[None, :] - at[:, None]
    nearest = np.partition(np.abs(offset), min(_NEIGHBOURS, len(x)) - 1, axis=1)
    reach = np.maximum(bandwidth, nearest[:, min(_NEIGHBOURS, len(x)) - 1])[:, None]
    z = offset / np.maximum(reach, 1e-12)
    weight = np.exp(-0.5 * z**2)
    s0, s1, s2 = (np.sum(weight * z**k, axis=1) for k in range(3))
    t0, t1 = (np.sum(weight * y * z**k, axis=1) for k in range(2))
    determinant = s0 * s2 - s1**2
    # All neighbours at one place leave no slope to be told: their mean.
    flat = determinant <= 1e-9 * s0**2
    return np.where(flat, t0 / s0, (s2 * t0 - s1 * t1) / np.where(flat, 1.0, determinant))


def _left_out(x: np.ndarray, y: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, float]:
    """Errors of predicting each method from the others at the best bandwidth, and that."""
    span = max(float(np.ptp(x)), 1e-12)

    def errors(bandwidth: float) -> np.ndarray:
        found = np.empty_like(y)
        for method in range(owner.max() + 1):
            own = owner == method
            found[own] = y[own] - _fit(x[own], x[~own], y[~own], bandwidth)
        return found

    tried = {share * span: errors(share * span) for share in _BANDWIDTHS}
    chosen = min(tried, key=lambda bandwidth: float(np.sum(tried[bandwidth] ** 2)))
    return tried[chosen], chosen


def _samples(methods: int) -> np.ndarray:
    """How often each method counts, (1 + resamples, methods); first as it is."""
    count = _RESAMPLES if methods >= _FEWEST_METHODS else 0
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(methods, np.full(methods, 1 / methods), size=count)
    return np.vstack([np.ones(methods), drawn])


def _r2(y: np.ndarray, errors: np.ndarray, owner: np.ndarray, samples: np.ndarray) -> np.ndarray:
    weight = samples[:, owner]
    mean = (weight @ y) / weight.sum(axis=1)
    total = (weight * (y[None, :] - mean[:, None]) ** 2).sum(axis=1)
    return 1 - (weight @ errors**2) / np.where(total > 0, total, np.nan)


def _explained(r2: np.ndarray, errors: np.ndarray, other: np.ndarray | None = None) -> Explained:
    rmse = float(np.sqrt(np.mean(errors**2)))
    if other is not None:
        rmse -= float(np.sqrt(np.mean(other**2)))
    drawn = r2[1:][np.isfinite(r2[1:])]
    if len(drawn) == 0:
        return Explained(float(r2[0]), None, None, rmse)
    low, high = np.percentile(drawn, [50 * ALPHA, 100 - 50 * ALPHA])
    return Explained(float(r2[0]), float(low), float(high), rmse)


def _residual(label: str, points: Sequence[Point], errors: np.ndarray) -> Residual:
    own = errors[[point.label == label for point in points]]
    return Residual(label, float(own.mean()), len(own))
