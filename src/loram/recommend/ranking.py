"""HR@k, NDCG@k, MRR and Recall@k of lists, exact on ties.

Tied items are in random order; each metric is its expected value over these orders. Positions run
from 1; a discount is 1/log2(position + 1); relevance is 0 or 1.
"""

from collections.abc import Sequence
from math import comb

import numpy as np

from loram.recommend.errors import RecommendError
from loram.recommend.interactions import Floats, Ints
from loram.recommend.metrics import checked

__all__ = ["of_candidates", "of_groups", "of_list"]


def of_list(relevant: Floats, score: Floats, ks: Sequence[int] = (5, 10)) -> dict[str, float]:
    """`hr@k`, `ndcg@k`, `recall@k` for every k, and `mrr`, of one list.

    Args:
        relevant: (c,) 0 or 1, at least one of them 1.
        score: (c,).
        ks: cut-offs; one that is longer than the list is the whole list.
    """
    relevant, score = checked(relevant, score)
    if any(k < 1 for k in ks):
        raise RecommendError(f"expected cut-offs of 1 or more, got {list(ks)}")
    wanted = int(relevant.sum())
    if not wanted:
        raise RecommendError("expected a list with something relevant in it, got none")
    _, group = np.unique(-score, return_inverse=True)
    size = np.bincount(group)
    hits = np.bincount(group, weights=relevant).astype(np.float64)
    above = np.cumsum(size) - size
    discount = 1 / np.log2(np.arange(len(score)) + 2)
    gained = np.r_[0.0, np.cumsum(discount)]
    result: dict[str, float] = {}
    for k in ks:
        taken = np.clip(k - above, 0, size)
        part = hits / size
        dcg = (part * (gained[above + taken] - gained[above])).sum()
        result[f"ndcg@{k}"] = float(dcg / gained[min(k, wanted)])
        result[f"recall@{k}"] = float((part * taken).sum() / wanted)
        result[f"hr@{k}"] = 1 - float(_none_within(hits, size, taken))
    result["mrr"] = _reciprocal(hits, size, above)
    return result


def _none_within(hits: Floats, size: Ints, taken: Ints) -> float:
    """Chance that no relevant item is among those taken of each group of ties."""
    chance = 1.0
    for h, s, t in zip(hits.astype(int), size, taken, strict=True):
        if not t:
            break
        chance *= comb(int(s - h), int(t)) / comb(int(s), int(t))
        if not chance:
            break
    return chance


def _reciprocal(hits: Floats, size: Ints, above: Ints) -> float:
    """Expected 1/position of the first relevant item: it lies in the first group that has one."""
    first = int(np.flatnonzero(hits)[0])
    h, s, a = int(hits[first]), int(size[first]), int(above[first])
    ways = comb(s, h)
    return sum(comb(s - j, h - 1) / ways / (a + j) for j in range(1, s - h + 2))


def of_groups(
    relevant: Floats, score: Floats, group: Ints, ks: Sequence[int] = (5, 10)
) -> tuple[Ints, dict[str, Floats]]:
    """The metrics of many lists; those without anything relevant are left out.

    Args:
        relevant: (n,) 0 or 1.
        score: (n,).
        group: (n,) which list each belongs to, such as its user.
        ks: cut-offs.

    Returns:
        Groups (g,), and values (g,) by metric.
    """
    relevant, score = checked(relevant, score)
    order = np.argsort(group, kind="stable")
    groups, starts = np.unique(group[order], return_index=True)
    kept: list[int] = []
    found: list[dict[str, float]] = []
    for name, rows in zip(groups, np.split(order, starts[1:]), strict=True):
        if relevant[rows].any():
            kept.append(int(name))
            found.append(of_list(relevant[rows], score[rows], ks))
    names = [f"{m}@{k}" for k in ks for m in ("hr", "ndcg", "recall")] + ["mrr"]
    values = {name: np.asarray([one[name] for one in found], dtype=np.float64) for name in names}
    return np.asarray(kept, dtype=np.int64), values


def of_candidates(target: Ints, score: Floats, ks: Sequence[int] = (1, 5, 10)) -> dict[str, Floats]:
    """The metrics (n,) of lists of equal length with one relevant item each.

    Args:
        target: (n,) place of the relevant one.
        score: (n, c).
        ks: cut-offs.
    """
    n, c = score.shape
    relevant = (np.arange(c) == target[:, None]).astype(np.float64)
    group = np.repeat(np.arange(n), c)
    return of_groups(relevant.reshape(-1), score.reshape(-1), group, ks)[1]
