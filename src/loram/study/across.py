"""Methods over several tasks: mean ranks, normalised scores, and tests over tasks.

Tasks are taken as they are, not as a sample: intervals come from resampling the seeds within each
task, equal seeds for all methods. Only Friedman's test speaks of tasks beyond those that were run,
and it needs at least five.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from loram.study.comparison import Verdict, claim
from loram.study.results import Better
from loram.study.select import sign
from loram.study.statistics import ALPHA, Paired, constant, holm, stratified

__all__ = ["Friedman", "Overall", "Standing", "TaskScores", "overall"]

FEWEST_TASKS = 5  # for Friedman's test; Demšar (JMLR 7, 2006) asks for more than ten
_RESAMPLES = 2000


class TaskScores(NamedTuple):
    """A task's test metric by method and seed; NaN where a run diverged.

    Every method has the same seeds.
    """

    better: Better
    values: Mapping[str, Mapping[int, float]]


class Standing(NamedTuple):
    """A method over all tasks.

    Attributes:
        label: of the method.
        rank: mean over tasks and seeds, 1 is best; divergence is last.
        rank_bounds: of the bootstrap; None with one seed.
        score: mean over tasks and seeds, where 0 and 1 are the means of a task's worst and best
            method; divergence is 0, or the worst seed's where that is below.
        score_bounds: likewise.
        against: score minus the reference's; None for the reference itself.
        p: corrected by Holm over the methods.
        diverged: its runs that did, over all tasks.
    """

    label: str
    rank: float
    rank_bounds: tuple[float, float] | None
    score: float
    score_bounds: tuple[float, float] | None
    against: Paired | None
    p: float | None
    diverged: int

    def verdict(self, other: "Standing") -> Verdict:
        """What may be said of it beside the one that it was tested against."""
        if self.against is None:
            return "not tested"
        ahead = self.against.difference.mean > 0
        return claim(self.p, ahead, bool((self if ahead else other).diverged))


class Friedman(NamedTuple):
    """Friedman's test of the tasks' mean ranks.

    Attributes:
        p: that all methods are alike.
        critical: Nemenyi's critical difference of two mean ranks.
    """

    p: float
    critical: float


class Overall(NamedTuple):
    """All methods that have every task, best mean rank first."""

    tasks: tuple[str, ...]
    standings: tuple[Standing, ...]
    friedman: Friedman | None

    def of(self, label: str) -> Standing | None:
        """That of a method, if it has every task."""
        return next((each for each in self.standings if each.label == label), None)


def overall(tasks: Mapping[str, TaskScores], reference: str) -> Overall | None:
    """Order the methods over tasks.

    Args:
        tasks: two or more, of the same methods.
        reference: label that scores are compared with; nothing is, if it is not among the methods.

    Returns:
        None below two tasks or two methods in all of them.
    """
    shared = [set(task.values) for task in tasks.values()]
    if len(tasks) < 2 or len(common := set.intersection(*shared)) < 2:
        return None
    labels = [label for label in next(iter(tasks.values())).values if label in common]
    ranks, scores = zip(*(_standardised(task, labels) for task in tasks.values()), strict=True)
    rank, rank_bounds = _resampled(ranks)
    value, value_bounds = _resampled(scores)
    against: list[Paired | None] = [None] * len(labels)
    if reference in labels:
        base = labels.index(reference)
        against = [
            None if k == base else stratified([task[k] - task[base] for task in scores])
            for k in range(len(labels))
        ]
    corrected = holm([None if each is None else each.p for each in against])
    standings = [
        Standing(
            label,
            float(rank[k]),
            _bounds_of(rank_bounds, k),
            float(value[k]),
            _bounds_of(value_bounds, k),
            against[k],
            corrected[k],
            sum(math.isnan(v) for task in tasks.values() for v in task.values[label].values()),
        )
        for k, label in enumerate(labels)
    ]
    standings.sort(key=lambda each: each.rank)
    return Overall(tuple(tasks), tuple(standings), _friedman(ranks))


def _standardised(task: TaskScores, labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Ranks and scores of one task, (methods, seeds) each."""
    seeds = sorted(task.values[labels[0]])
    table = [[task.values[label][seed] for seed in seeds] for label in labels]
    values = sign(task.better) * np.array(table)
    diverged = np.isnan(values)
    ranks = stats.rankdata(-np.where(diverged, -np.inf, values), axis=0)
    means = np.array([np.nanmean(row) for row in values if not np.isnan(row).all()])
    # Equal values in another order of seeds, or values that rounding sets apart, are no spread.
    alike = len(means) == 0 or constant(means)
    scores = np.full_like(values, 0.5) if alike else (values - means.min()) / np.ptp(means)
    # A seed may lie below the worst method's mean; one that diverged lies below all.
    return ranks, np.where(diverged, min(0.0, float(np.nanmin(scores, initial=0.0))), scores)


def _resampled(
    tasks: Sequence[np.ndarray],
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """Mean over tasks and seeds by method, and its bounds."""
    mean = np.mean([task.mean(axis=1) for task in tasks], axis=0)
    if min(task.shape[1] for task in tasks) < 2:
        return mean, None
    generator = np.random.default_rng(0)
    drawn = np.zeros((len(mean), _RESAMPLES))
    for task in tasks:
        seeds = generator.integers(task.shape[1], size=(_RESAMPLES, task.shape[1]))
        drawn += task[:, seeds].mean(axis=2) / len(tasks)
    low, high = np.percentile(drawn, [100 * ALPHA / 2, 100 * (1 - ALPHA / 2)], axis=1)
    return mean, (low, high)


def _bounds_of(bounds: tuple[np.ndarray, np.ndarray] | None, k: int) -> tuple[float, float] | None:
    return None if bounds is None else (float(bounds[0][k]), float(bounds[1][k]))


def _friedman(ranks: Sequence[np.ndarray]) -> Friedman | None:
    methods, tasks = len(ranks[0]), len(ranks)
    if tasks < FEWEST_TASKS or methods < 3:
        return None
    means = [task.mean(axis=1) for task in ranks]
    if all(np.ptp(mean) == 0 for mean in means):
        return None
    p = float(stats.friedmanchisquare(*np.array(means).T).pvalue)
    q = float(stats.studentized_range.ppf(1 - ALPHA, methods, np.inf)) / math.sqrt(2)
    return Friedman(p, q * math.sqrt(methods * (methods + 1) / (6 * tasks)))
