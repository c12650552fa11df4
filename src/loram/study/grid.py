"""Learning rates on one grid for all studies: 10^(k/n), so that runs of two studies coincide."""

import math

__all__ = ["points", "rate"]

_SLACK = 1e-6  # of a point: 1e-5 written as a decimal is the point, not a little beside it


def rate(k: int, per_decade: int) -> float:
    """10^(k / per_decade), to the 12 digits that every machine's `pow` agrees on."""
    return float(f"{10 ** (k / per_decade):.12g}")


def points(low: float, high: float, per_decade: int) -> range:
    """Every k with low ≤ 10^(k / per_decade) ≤ high; may be empty."""
    first = math.ceil(math.log10(low) * per_decade - _SLACK)
    last = math.floor(math.log10(high) * per_decade + _SLACK)
    return range(first, last + 1)
