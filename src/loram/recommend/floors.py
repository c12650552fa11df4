"""What counting alone reaches: scores of targets with nothing trained.

On TALLRec's movie test the like-share of the history has AUC 0.726, and with the item mean 0.763:
as much as the published 7B numbers. Every table of this room prints these first.
"""

import numpy as np

from loram.recommend.errors import RecommendError
from loram.recommend.interactions import UNKNOWN, Floats, Ints
from loram.recommend.samples import Samples

__all__ = ["floors", "shrunk_mean"]


def shrunk_mean(code: Ints, label: Floats, asked: Ints, *, shrinkage: float = 5.0) -> Floats:
    """Mean label of each code, (Σ label + s·global mean) / (count + s): (m,) for `asked`.

    Codes without a row, and `UNKNOWN`, get the global mean.

    Args:
        code: (n,) of the training rows.
        label: (n,).
        asked: (m,) codes.
        shrinkage: s, in rows.
    """
    if not len(code):
        raise RecommendError("expected training rows to take means of, got none")
    size = int(max(code.max(), asked.max(initial=0))) + 2  # the last place is that of UNKNOWN
    known = code != UNKNOWN
    count = np.bincount(code[known], minlength=size)
    total = np.bincount(code[known], weights=label[known], minlength=size)
    overall = float(label.mean())
    mean = np.divide(
        total + shrinkage * overall,
        count + shrinkage,
        out=np.full(size, overall),
        where=count + shrinkage > 0,
    )
    return mean[np.where(asked == UNKNOWN, size - 1, asked)]


def floors(train: Samples, test: Samples, *, shrinkage: float = 5.0) -> dict[str, Floats]:
    """Scores (m,) of the test targets by name; those of histories only where there are any.

    `popularity` counts positive training rows of the item. Means are shrunk towards the global
    mean. `like share` is likes / length of the history, 1/2 where it is empty; in the sums it is
    logit((likes + 1) / (length + 2)).

    Raises:
        RecommendError: no training rows or no targets.
    """
    if not len(test):
        raise RecommendError("expected targets to score, got none")
    liked = train.item[(train.label == 1) & (train.item != UNKNOWN)]
    count = np.bincount(liked, minlength=int(test.item.max(initial=0)) + 1)
    popularity = np.where(test.item == UNKNOWN, 0, count[test.item]).astype(np.float64)
    user = shrunk_mean(train.user, train.label, test.user, shrinkage=shrinkage)
    item = shrunk_mean(train.item, train.label, test.item, shrinkage=shrinkage)
    scores = {
        "popularity": popularity,
        "user mean": user,
        "item mean": item,
        "user + item": _logit(user) + _logit(item),
    }
    length = (test.history != UNKNOWN).sum(1)
    if length.any():
        likes = test.history_label.sum(1)
        share = np.divide(likes, length, out=np.full(len(test), 0.5), where=length > 0)
        smooth = _logit((likes + 1) / (length + 2))
        scores["like share"] = share
        scores["like share + item"] = smooth + _logit(item)
    return scores


def _logit(p: Floats) -> Floats:
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return np.log(p) - np.log1p(-p)
