"""Intervals by bootstrap over users: a user's rows are drawn together, as they belong together."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from loram.recommend.errors import RecommendError
from loram.recommend.interactions import Floats, Ints
from loram.recommend.metrics import SortedScores, log_loss, per_user_auc
from loram.recommend.ranking import of_groups

__all__ = ["Interval", "bootstrap", "judge", "mean_interval"]


class Interval(NamedTuple):
    """A value, and the interval that holds `level` of its bootstrap draws."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    statistic: Callable[[Floats], float],
    user: Ints,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a statistic over users drawn with replacement.

    Args:
        statistic: of weights (n,): how often each row counts.
        user: (n,) who each row belongs to.
        resamples: draws; one in which the statistic is NaN is left out.
        level: share of the draws inside.
        seed: of the draws.

    Raises:
        RecommendError: no rows, no draws, or a level outside (0, 1).
    """
    if not len(user) or resamples < 1 or not 0 < level < 1:
        raise RecommendError(
            f"expected rows, draws and a level within (0, 1), got {len(user)} rows, {resamples} "
            f"draws, level {level}"
        )
    _, place = np.unique(user, return_inverse=True)
    users = int(place.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = (rng.multinomial(users, np.full(users, 1 / users)) for _ in range(resamples))
    values = np.asarray([statistic(w.astype(np.float64)[place]) for w in drawn])
    values = values[~np.isnan(values)]
    value = statistic(np.ones(len(user)))
    if not len(values):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def mean_interval(
    values: Floats,
    user: Ints,
    *,
    weight: Floats | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Interval of a mean over rows, each `weight` times."""
    base = np.ones(len(values)) if weight is None else weight

    def mean(drawn: Floats) -> float:
        total = (drawn * base).sum()
        return float((drawn * base * values).sum() / total) if total else float("nan")

    return bootstrap(mean, user, resamples=resamples, seed=seed)


def judge(
    label: Floats,
    score: Floats,
    user: Ints,
    *,
    ks: tuple[int, ...] = (),
    probabilities: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """AUC and UAUC, of probabilities also log-loss, and NDCG@k and the like of each user's rows.

    Args:
        label: (n,) of 0 and 1.
        score: (n,).
        user: (n,).
        ks: cut-offs; none for none.
        probabilities: whether scores are such.
        resamples: bootstrap draws.
        seed: of the draws.
    """

    def mean(values: Floats, owner: Ints) -> Interval:
        return mean_interval(values, owner, resamples=resamples, seed=seed)

    sorted_scores = SortedScores(label, score)
    result = {"auc": bootstrap(sorted_scores.auc, user, resamples=resamples, seed=seed)}
    users, values, _ = per_user_auc(label, score, user)
    if len(users):
        result["uauc"] = mean(values, users)
    if probabilities:
        result["log_loss"] = mean(log_loss(label, score), user)
    if ks:
        groups, found = of_groups(label, score, user, ks)
        if len(groups):
            result |= {name: mean(v, groups) for name, v in found.items()}
    return result
