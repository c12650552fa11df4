"""A smooth curve through runs, and how well the curve of all other methods predicts a method's.

The curve is a local linear fit with Gaussian weights, clamped to the range of the runs it is fitted
to. Its bandwidth is the one that predicts best, so that no predictor is favoured over another.
"""

import numpy as np

__all__ = ["fit", "left_out", "r2"]

_BANDWIDTHS = (0.03, 0.06, 0.12, 0.25, 0.5)  # of the predictor's range
_NEIGHBOURS = 4  # a bandwidth reaches at least so many runs


def fit(at: np.ndarray, x: np.ndarray, y: np.ndarray, *bandwidths: float) -> np.ndarray:
    """Local linear regression of y on x, at some points.

    Args:
        at: (q,).
        x: (n,).
        y: (n,).
        bandwidths: standard deviations of the weights, in units of x, (b,).

    Returns:
        (b, q).
    """
    at = np.clip(at, x.min(), x.max())
    offset = x[None, :] - at[:, None]
    fewest = min(_NEIGHBOURS, len(x)) - 1
    nearest = np.partition(np.abs(offset), fewest, axis=1)[:, fewest, None]
    found = np.empty((len(bandwidths), len(at)))
    for row, bandwidth in enumerate(bandwidths):
        z = offset / np.maximum(np.maximum(bandwidth, nearest), 1e-12)
        weight = np.exp(-0.5 * z**2)
        first = weight * z
        s0, s1, s2 = weight.sum(axis=1), first.sum(axis=1), (first * z).sum(axis=1)
        t0, t1 = weight @ y, first @ y
        determinant = s0 * s2 - s1**2
        # All neighbours at one place leave no slope to be told: their mean.
        flat = determinant <= 1e-9 * s0**2
        slanted = (s2 * t0 - s1 * t1) / np.where(flat, 1.0, determinant)
        found[row] = np.where(flat, t0 / s0, slanted)
    return found


def left_out(x: np.ndarray, y: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, float]:
    """Errors of predicting each method's runs from those of all others.

    Args:
        x: predictor of each run, (n,).
        y: metric of each run, (n,).
        owner: whose run it is, any integers, (n,); at least two owners.

    Returns:
        y minus the prediction, (n,), at the bandwidth where it is least; and that bandwidth.
    """
    bandwidths = [share * max(float(np.ptp(x)), 1e-12) for share in _BANDWIDTHS]
    errors = np.empty((len(bandwidths), len(y)))
    for method in np.unique(owner):
        own = owner == method
        errors[:, own] = y[own] - fit(x[own], x[~own], y[~own], *bandwidths)
    best = int(np.argmin(np.sum(errors**2, axis=1)))
    return errors[best], bandwidths[best]


def r2(y: np.ndarray, errors: np.ndarray) -> float:
    """Share of y's variance that is predicted; below 0 where the mean would do better."""
    return 1 - float(np.sum(errors**2) / np.sum((y - y.mean()) ** 2))
