"""Several sources of the same kind as one: files that come already split."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from loram.recommend.errors import RecommendError
from loram.recommend.interactions import UNKNOWN, Column, Floats, Interactions, Ints

__all__ = ["joined"]


def joined(parts: Sequence[Interactions]) -> tuple[Interactions, tuple[Ints, ...]]:
    """One data set with vocabularies in common, and the rows of each part.

    Features of users and items are left out: no file of a split has them apart.

    Raises:
        RecommendError: a part lacks ratings, labels, times, histories or a context that another
            has.
    """
    first = parts[0]
    names = [_has(part) for part in parts]
    if any(name != names[0] for name in names):
        raise RecommendError(f"expected files with the same columns, got {names}")
    users, items = _common(p.users for p in parts), _common(p.items for p in parts)
    user = [np.asarray([users[u] for u in p.users], dtype=np.int64) for p in parts]
    item = [np.asarray([items[i] for i in p.items], dtype=np.int64) for p in parts]
    titles: dict[int, str | None] = {}
    for part, codes in zip(parts, item, strict=True):
        titles |= {int(c): t for c, t in zip(codes, part.titles, strict=False) if t is not None}
    ends = np.cumsum([0, *map(len, parts)])
    whole = replace(
        first,
        user=np.concatenate([u[p.user] for p, u in zip(parts, user, strict=True)]),
        item=np.concatenate([i[p.item] for p, i in zip(parts, item, strict=True)]),
        users=tuple(users),
        items=tuple(items),
        rating=_numbers([p.rating for p in parts]),
        label=_numbers([p.label for p in parts]),
        time=_numbers([p.time for p in parts]),
        titles=tuple(titles.get(i) for i in range(len(items))) if titles else (),
        context={name: _context([p.context[name] for p in parts]) for name in first.context},
        user_features={},
        item_features={},
        history=None
        if first.history is None
        else tuple(i[h] for p, i in zip(parts, item, strict=True) for h in p.history or ()),
    )
    return whole, tuple(np.arange(a, b) for a, b in pairwise(ends))


def _has(data: Interactions) -> list[str]:
    columns = {"rating": data.rating, "label": data.label, "time": data.time}
    columns |= {"history": data.history}
    return [name for name, column in columns.items() if column is not None] + sorted(data.context)


def _common(vocabularies: Iterable[tuple[str, ...]]) -> dict[str, int]:
    known: dict[str, int] = {}
    for vocabulary in vocabularies:
        for text in vocabulary:
            known.setdefault(text, len(known))
    return known


def _numbers(columns: Sequence[Floats | None]) -> Floats | None:
    there = [column for column in columns if column is not None]
    return np.concatenate(there) if there else None


def _context(columns: Sequence[Column]) -> Column:
    known = _common([c.vocabulary for c in columns])
    # One place more at the end, where UNKNOWN (−1) finds itself.
    codes = [np.asarray([known[v] for v in c.vocabulary] + [UNKNOWN])[c.codes] for c in columns]
    return Column(np.concatenate(codes).astype(np.int64), tuple(known))
