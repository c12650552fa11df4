"""AUC, UAUC and log-loss, exact on ties, with weights for the bootstrap."""

import numpy as np

from loram.recommend.errors import RecommendError
from loram.recommend.interactions import Floats, Ints

__all__ = ["SortedScores", "auc", "checked", "log_loss", "per_user_auc", "uauc"]


def checked(label: Floats, score: Floats) -> tuple[Floats, Floats]:
    """Both as float64.

    Raises:
        RecommendError: lengths differ, a label is neither 0 nor 1, or a score is NaN.
    """
    label, score = np.asarray(label, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if label.ndim != 1 or label.shape != score.shape:
        raise RecommendError(f"expected a score for each label, got {score.shape}, {label.shape}")
    if np.any((label != 0) & (label != 1)):
        raise RecommendError("expected labels of 0 and 1 alone")
    if np.isnan(score).any():
        raise RecommendError(f"{int(np.isnan(score).sum())} of {len(score)} scores are NaN")
    return label, score


class SortedScores:
    """Scores sorted once, to be judged under many weights.

    Args:
        label: (n,) of 0 and 1.
        score: (n,), more for what is thought more likely.
    """

    def __init__(self, label: Floats, score: Floats) -> None:
        label, score = checked(label, score)
        self._order = np.argsort(score, kind="stable")
        self._positive = label[self._order]
        ordered = score[self._order]
        first = np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)]
        self._starts = np.flatnonzero(first)  # where groups of ties begin

    def auc(self, weight: Floats | None = None) -> float:
        """Share of (positive, negative) pairs in the right order, ties half; NaN without pairs.

        Args:
            weight: (n,) how often each row counts.
        """
        if not len(self._order):
            return float("nan")
        w = np.ones(len(self._order)) if weight is None else weight[self._order]
        positive = np.add.reduceat(w * self._positive, self._starts)
        negative = np.add.reduceat(w * (1 - self._positive), self._starts)
        below = np.cumsum(negative) - negative
        pairs = positive.sum() * negative.sum()
        return float((positive * (below + negative / 2)).sum() / pairs) if pairs else float("nan")


def auc(label: Floats, score: Floats) -> float:
    """Area under the ROC curve; NaN where all labels are the same."""
    return SortedScores(label, score).auc()


def per_user_auc(label: Floats, score: Floats, user: Ints) -> tuple[Ints, Floats, Ints]:
    """AUC of each user who has both classes.

    Returns:
        Users (u,), AUC (u,), rows (u,).
    """
    label, score = checked(label, score)
    if len(user) != len(label):
        raise RecommendError(f"expected a user for each of {len(label)} labels, got {len(user)}")
    order = np.argsort(user, kind="stable")
    users, starts, counts = np.unique(user[order], return_index=True, return_counts=True)
    values = (
        [SortedScores(label[rows], score[rows]).auc() for rows in np.split(order, starts[1:])]
        if len(order)
        else []
    )
    found = np.asarray(values, dtype=np.float64)
    both = ~np.isnan(found)
    return users[both], found[both], counts[both]


def uauc(label: Floats, score: Floats, user: Ints, *, weighted: bool = False) -> float:
    """Mean AUC over users with both classes, as CoLLM; NaN if there is none.

    Args:
        label: (n,) of 0 and 1.
        score: (n,).
        user: (n,).
        weighted: by the user's rows, instead of every user alike.
    """
    _, values, counts = per_user_auc(label, score, user)
    if not len(values):
        return float("nan")
    return float(np.average(values, weights=counts if weighted else None))


def log_loss(label: Floats, probability: Floats) -> Floats:
    """−log of the probability given to each label (n,); probabilities are kept 1e-15 off 0 and 1.

    Raises:
        RecommendError: one lies outside [0, 1].
    """
    label, probability = checked(label, probability)
    if np.any((probability < 0) | (probability > 1)):
        raise RecommendError("log-loss: expected probabilities in [0, 1]")
    p = np.clip(probability, 1e-15, 1 - 1e-15)
    return -(label * np.log(p) + (1 - label) * np.log1p(-p))
