"""Intervals over seeds, paired tests, and their correction for many comparisons.

Three to five seeds are few. A percentile bootstrap of three values is far too narrow (it covers the
mean of normal data in about 75 % of cases where it says 95 %), because it can't see beyond the
values it has. Student's interval is exact for normal data at any n and is therefore the one that is
printed and that claims rest on; the bootstrap is kept beside it for who wants it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

__all__ = [
    "ALPHA",
    "Interval",
    "Paired",
    "bootstrap",
    "constant",
    "holm",
    "paired",
    "stratified",
    "student",
]

ALPHA = 0.05
"""Intervals are of 1 - ALPHA; a claim needs a corrected p below it."""
WILCOXON_FROM = 6  # with fewer pairs its smallest possible p is above 0.05
_RESAMPLES = 2000


class Interval(NamedTuple):
    """A mean of n values with bounds; those are None for one value, and where all are equal."""

    mean: float
    low: float | None
    high: float | None
    n: int


class Paired(NamedTuple):
    """Differences of two methods over the seeds both have.

    Attributes:
        difference: first minus second, with Student's interval.
        p: of the paired t-test; None where it can't be made: fewer than two pairs, or equal
            differences throughout, whose spread says nothing.
        wilcoxon: p of the signed-rank test; None below six pairs.
    """

    difference: Interval
    p: float | None
    wilcoxon: float | None


def student(values: Sequence[float], level: float = 1 - ALPHA) -> Interval:
    """Mean with Student's t interval.

    Args:
        values: finite; at least one.
        level: of confidence.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    array = _finite(values)
    if constant(array):
        return Interval(float(array.mean()), None, None, len(array))
    bounds = stats.ttest_1samp(array, 0.0).confidence_interval(level)
    return Interval(float(array.mean()), float(bounds.low), float(bounds.high), len(array))


def bootstrap(values: Sequence[float], level: float = 1 - ALPHA, seed: int = 0) -> Interval:
    """Mean with the percentile bootstrap's interval; too narrow below ten values or so.

    Args:
        values: finite; at least one.
        level: of confidence.
        seed: of the resampling.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    array = _finite(values)
    if constant(array):
        return Interval(float(array.mean()), None, None, len(array))
    found = stats.bootstrap(
        (array,),
        np.mean,
        confidence_level=level,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(array.mean()), float(found.low), float(found.high), len(array))


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Paired | None:
    """Compare two methods seed by seed.

    Args:
        first: metric by seed.
        second: likewise.

    Returns:
        None if no seed is in both.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    differences = np.array([first[seed] - second[seed] for seed in seeds])
    size = max(abs(v) for seed in seeds for v in (first[seed], second[seed]))
    if constant(differences, size):
        p = wilcoxon = None
        # No difference at all is the one constant that can be told: nothing speaks for any.
        if len(differences) > 1 and not differences.any():
            p = 1.0
        return Paired(Interval(float(differences.mean()), None, None, len(seeds)), p, wilcoxon)
    p = _p(stats.ttest_1samp(differences, 0.0))
    wilcoxon = None
    if len(seeds) >= WILCOXON_FROM:
        wilcoxon = _p(stats.wilcoxon(differences, method=_wilcoxon_method(differences)))
    return Paired(student(differences.tolist()), p, wilcoxon)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (Scand. J. Statist. 6, 1979): compare with ALPHA as they are.

    Args:
        p_values: of one family; None where no test could be made, which doesn't count as one.
    """
    order = sorted(
        (p, index) for index, p in enumerate(p_values) if p is not None and not math.isnan(p)
    )
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for position, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - position)))
        corrected[index] = largest
    return corrected


def stratified(strata: Sequence[Sequence[float]], level: float = 1 - ALPHA) -> Paired | None:
    """Mean over strata of the means within them, tested against 0 (Welch and Satterthwaite).

    The strata (tasks) are taken as they are, not as a sample of others: what is found holds of
    them.

    Args:
        strata: differences within each; two or more values in each for a test.
        level: of the interval.

    Returns:
        None without strata or with an empty one.
    """
    if not strata or any(len(values) == 0 for values in strata):
        return None
    mean = float(np.mean([np.mean(values) for values in strata]))
    n = sum(len(values) for values in strata)
    if any(len(values) < 2 for values in strata):
        return Paired(Interval(mean, None, None, n), None, None)
    parts = [float(np.var(values, ddof=1)) / len(values) for values in strata]
    variance = sum(parts)
    if variance <= 1e-20:
        return Paired(Interval(mean, None, None, n), 1.0 if mean == 0 else None, None)
    error = math.sqrt(variance) / len(strata)
    freedom = variance**2 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, strata, strict=True)
    )
    reach = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, freedom))
    return Paired(Interval(mean, mean - reach, mean + reach, n), p, None)


def _p(result: Any) -> float:
    return float(result.pvalue)


def _finite(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0 or not np.isfinite(array).all():
        raise ValueError(f"expected one or more finite values, got {list(values)}")
    return array


def constant(array: np.ndarray, size: float = 0.0) -> bool:
    """One value, or values that differ by less than rounding of numbers of this size."""
    scale = max(size, float(np.abs(array).max()))
    return len(array) < 2 or float(np.ptp(array)) <= 1e-12 * scale


def _wilcoxon_method(differences: np.ndarray) -> str:
    """The exact distribution knows no ties and no zeros."""
    sizes = np.abs(differences)
    ties = len(np.unique(sizes)) < len(sizes) or not sizes.all()
    return "asymptotic" if ties else "exact"
