"""Sampled negatives: for each positive row, items that its user never met, in the same context."""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from loram.recommend.errors import RecommendError
from loram.recommend.interactions import Column, Interactions, Ints
from loram.recommend.splits import Rows

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
__all__ = ["parts_with_negatives", "with_clock", "with_negatives"]


def with_negatives(
    data: Interactions, rows: Ints | None = None, *, each: int = 2, seed: int = 0
) -> Interactions:
    """Rows with label 1, then `each` copies of them with an item the user never met and label 0.

    Items are drawn evenly. An item that the user meets anywhere in `data` is never drawn, also
    where `rows` are a part of it: so do the public benchmarks.

    Args:
        data: all that is known.
        rows: the positives; all by default.
        each: negatives for each of them.
        seed: of the draw.

    Raises:
        RecommendError: `each` is negative, or a user has met all items.
    """
    if each < 0:
        raise RecommendError(f"expected 0 or more negatives for each row, got {each}")
    positive = data.take(np.arange(len(data)) if rows is None else rows)
    if positive.history is not None:
        positive = replace(positive, history=None)
    items = len(data.items)
    met = np.unique(data.user * items + data.item)
    if each and (np.bincount(met // items) >= items).any():
        raise RecommendError(f"{data.name}: a user has met all {items} items: nothing to draw")
    rng = np.random.default_rng(seed)
    user = np.repeat(positive.user, each)
    item = rng.integers(0, items, len(user))
    while len(again := np.flatnonzero(np.isin(user * items + item, met))):
        item[again] = rng.integers(0, items, len(again))
    source = np.r_[np.arange(len(positive)), np.repeat(np.arange(len(positive)), each)]
    both = positive.take(source)
    label = np.r_[np.ones(len(positive)), np.zeros(len(user))]
    return replace(both, item=np.r_[positive.item, item], label=label, rating=None)


def parts_with_negatives(
    data: Interactions, rows: Rows, *, each: tuple[int, int, int] = (2, 2, 2), seed: int = 0
) -> tuple[Interactions, Rows]:
    """A split of positives with negatives of their own in each part.

    Args:
        data: positives.
        rows: their split.
        each: negatives for each positive of train, valid and test.
        seed: of the draws.

    Returns:
        Interactions with labels, and their split.
    """
    parts = [
        with_negatives(data, part, each=n, seed=seed + number)
        for number, (part, n) in enumerate(zip(rows, each, strict=True))
    ]
    ends = np.cumsum([0, *(len(part) for part in parts)])
    joined = replace(
        parts[0],
        user=np.concatenate([p.user for p in parts]),
        item=np.concatenate([p.item for p in parts]),
        label=np.concatenate([p.labels() for p in parts]),
        time=None if data.time is None else np.concatenate([p.times() for p in parts]),
        context={
            name: Column(np.concatenate([p.context[name].codes for p in parts]), c.vocabulary)
            for name, c in data.context.items()
        },
    )
    return joined, Rows(*(np.arange(a, b) for a, b in pairwise(ends)))


def with_clock(data: Interactions) -> Interactions:
    """The same with `hour` and `weekday` of each row's time, in UTC, as explicit context."""
    seconds = data.times().astype(np.int64)
    hour = Column(seconds // 3600 % 24, tuple(map(str, range(24))))
    weekday = Column((seconds // 86400 + 3) % 7, _DAYS)
    return replace(data, context={**data.context, "hour": hour, "weekday": weekday})
