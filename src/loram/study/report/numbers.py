"""How numbers are printed in a report."""

import math

from loram.study.statistics import Interval

__all__ = [
    "NONE",
    "amount",
    "bounds",
    "interval",
    "number",
    "p_equals",
    "p_value",
    "rate",
    "seconds",
]

NONE = "–"


def number(value: float | None) -> str:
    """A metric: four decimals, or as many digits if it is large."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:.4g}" if abs(value) >= 100 else f"{value:z.4f}"


def bounds(low: float | None, high: float | None) -> str:
    """An interval's bounds, or nothing."""
    return "" if low is None or high is None else f" [{number(low)}, {number(high)}]"


def interval(found: Interval | None) -> str:
    """A mean with its bounds."""
    return NONE if found is None else number(found.mean) + bounds(found.low, found.high)


def p_value(p: float | None) -> str:
    """Three decimals."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_equals(p: float | None) -> str:
    """The same within a sentence."""
    return f"p {p_value(p)}" if p is not None and p < 0.001 else f"p = {p_value(p)}"


def rate(lr: float | None) -> str:
    """A learning rate: 1e-4, 1.78e-4."""
    if lr is None:
        return NONE
    digits, _, power = f"{lr:.2e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"


def amount(value: float | None) -> str:
    """A count or a size, by three digits."""
    return NONE if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def seconds(value: float | None) -> str:
    """A duration in seconds, minutes or hours."""
    if value is None:
        return NONE
    for unit, size in (("h", 3600), ("min", 60)):
        if value >= 2 * size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
