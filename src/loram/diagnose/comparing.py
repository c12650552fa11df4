"""Layers against their like."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

__all__ = ["by_kind", "far_from_kind", "median", "named"]

_FEW = 4  # fewer layers of a kind have no median worth comparing with


class _HasKind(Protocol):
    @property
    def kind(self) -> str: ...


Kinded = TypeVar("Kinded", bound=_HasKind)


def by_kind(layers: Iterable[Kinded]) -> dict[str, list[Kinded]]:
    """Layers by kind, in the order in which kinds appear."""
    kinds: dict[str, list[Kinded]] = defaultdict(list)
    for layer in layers:
        kinds[layer.kind].append(layer)
    return dict(kinds)


def median(values: Iterable[float | None]) -> float | None:
    """Of those that are there and not NaN; None if none is."""
    present = [value for value in values if value is not None and not math.isnan(value)]
    return statistics.median(present) if present else None


def named(names: Iterable[str], *, limit: int = 3) -> str:
    """`3 layers (a, b, c)`, cut after `limit` names."""
    names = list(names)
    shown = ", ".join(names[:limit]) + (", …" if len(names) > limit else "")
    return f"{len(names)} layer{'s' if len(names) > 1 else ''} ({shown})"


def far_from_kind(values: Sequence[tuple[str, str, float]], factor: float) -> list[str]:
    """Names whose value is more than `factor` times the median of their kind.

    Args:
        values: (name, kind, value) of every layer, finite.
        factor: > 1.
    """
    kinds: dict[str, list[float]] = defaultdict(list)
    for _, kind, value in values:
        kinds[kind].append(value)
    medians = {k: statistics.median(v) for k, v in kinds.items() if len(v) >= _FEW}
    return [
        name for name, kind, value in values if value > factor * medians.get(kind, float("inf")) > 0
    ]
