"""The metrics of GLUE: accuracy, F1, Matthews, Pearson and Spearman correlation.

Source: Wang et al. 2019, "GLUE", arXiv 1804.07461, table 1. Where a correlation is not defined,
because one side is constant, it is 0: such predictions say nothing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

__all__ = ["METRICS", "accuracy", "f1", "matthews", "pearson", "scorer", "spearman"]

Metric = Callable[[Sequence[float], Sequence[float]], float]
"""(predictions, labels) → a number; both of one length, at least 1."""


def accuracy(predictions: Sequence[float], labels: Sequence[float]) -> float:
    """Share of predictions that are right."""
    return sum(p == t for p, t in zip(predictions, labels, strict=True)) / len(labels)


def f1(predictions: Sequence[float], labels: Sequence[float]) -> float:
    """Harmonic mean of precision and recall of class 1; 0 if nothing of it is found."""
    hit, false, missed, _ = _table(predictions, labels)
    return 2 * hit / (2 * hit + false + missed) if hit else 0.0


def matthews(predictions: Sequence[float], labels: Sequence[float]) -> float:
    """Matthews' correlation of two classes (Matthews 1975); 0 if one side is constant."""
    hit, false, missed, right = _table(predictions, labels)
    sides = (hit + false) * (hit + missed) * (right + false) * (right + missed)
    return (hit * right - false * missed) / math.sqrt(sides) if sides else 0.0


def pearson(predictions: Sequence[float], labels: Sequence[float]) -> float:
    """Pearson's correlation; 0 if one side is constant, NaN if a prediction is not finite."""
    if not all(map(math.isfinite, predictions)):
        return math.nan
    if len({*predictions}) < 2 or len({*labels}) < 2:
        return 0.0
    x, y = _centred(predictions), _centred(labels)
    product = math.fsum(a * b for a, b in zip(x, y, strict=True))
    return max(-1.0, min(1.0, product / (math.hypot(*x) * math.hypot(*y))))


def spearman(predictions: Sequence[float], labels: Sequence[float]) -> float:
    """Pearson's correlation of the ranks, equal values sharing their mean rank."""
    if not all(map(math.isfinite, predictions)):
        return math.nan
    return pearson(_ranks(predictions), _ranks(labels))


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "accuracy": accuracy,
        "f1": f1,
        "matthews": matthews,
        "pearson": pearson,
        "spearman": spearman,
    }
)
"""By the name they have in results."""


def scorer(
    *names: str,
) -> Callable[[Sequence[float], Sequence[float]], dict[str, float]]:
    """A task's `score`: these metrics of predictions and labels."""

    def score(predictions: Sequence[float], labels: Sequence[float]) -> dict[str, float]:
        return {name: METRICS[name](predictions, labels) for name in names}

    return score


def _table(predictions: Sequence[float], labels: Sequence[float]) -> tuple[int, int, int, int]:
    """True and false positives, false and true negatives."""
    pairs = [(bool(p), bool(t)) for p, t in zip(predictions, labels, strict=True)]
    return (
        pairs.count((True, True)),
        pairs.count((True, False)),
        pairs.count((False, True)),
        pairs.count((False, False)),
    )


def _centred(values: Sequence[float]) -> list[float]:
    """Without their mean, and scaled by the largest: no square overflows or vanishes."""
    mean = math.fsum(values) / len(values)
    rest = [value - mean for value in values]
    largest = max(map(abs, rest))
    return [value / largest for value in rest] if largest else rest


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    first = 0
    while first < len(order):
        last = first
        while last + 1 < len(order) and values[order[last + 1]] == values[order[first]]:
            last += 1
        for i in order[first : last + 1]:
            ranks[i] = (first + last) / 2 + 1
        first = last + 1
    return ranks
