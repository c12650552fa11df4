"""Everything a report says, in numbers: from runs to comparisons, sweeps, costs and curves."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from loram.study.across import Overall, TaskScores, overall
from loram.study.collapse import Collapse, collapse
from loram.study.comparison import Comparison, Scores, compare
from loram.study.cost import Cost, Reached, cost, reached, reference_target
from loram.study.point import Point
from loram.study.record import Record
from loram.study.results import Better, Results, Run, same_rate, score
from loram.study.select import Rate, Tuned, scores_at, tuned
from loram.study.sensitivity import Slope, Width, slope_over_ranks, width
from loram.study.statistics import holm

__all__ = ["Block", "Findings", "Targets", "find"]

Split = Literal["validation", "test"]


class Targets(NamedTuple):
    """Time to a value of the validation metric at each method's best rate.

    Attributes:
        metric: of the curves: the main one, or the loss where they have no other.
        target: the value.
        given: by the user, or else it is the reference's own best.
        reached: by method, one for each of its seeds.
    """

    metric: str
    target: float
    given: bool
    reached: Mapping[str, tuple[Reached | None, ...]]


@dataclass(frozen=True, slots=True)
class Block:
    """One task at one rank.

    Attributes:
        task: its name.
        rank: r.
        metric: the main one.
        better: its direction.
        split: what `after` and `recipe` compare: test, or validation if no run has test metrics.
        sweeps: of every method, in the design's order.
        after: methods at their own best rates.
        recipe: methods at each fixed rate that was run.
        widths: of the range of good rates on validation, by method.
        targets: None without validation curves, or without a target.
        costs: by method.
    """

    task: str
    rank: int
    metric: str
    better: Better
    split: Split
    sweeps: tuple[Tuned, ...]
    after: Comparison
    recipe: Mapping[float, Comparison]
    widths: Mapping[str, Width | None]
    targets: Targets | None
    costs: Mapping[str, Cost]

    @property
    def swept(self) -> bool:
        """Whether any method's rate was tuned; else there are fixed rates only."""
        return any(sweep.rates for sweep in self.sweeps)

    def sweep(self, label: str) -> Tuned:
        """That of a method."""
        return next(each for each in self.sweeps if each.label == label)


@dataclass(frozen=True, slots=True)
class Findings:
    """A whole study.

    Attributes:
        results: what it was found from.
        reference: label that methods are compared with.
        blocks: by task and rank.
        over_tasks: at the best rates, by rank; ranks with two tasks or more.
        over_tasks_fixed: at fixed rates, by rank and rate.
        collapses: by task; all ranks together. Their p are corrected by Holm over tasks.
        slopes: of the best rate over rank, by task and method.
    """

    results: Results
    reference: str
    blocks: tuple[Block, ...]
    over_tasks: Mapping[int, Overall]
    over_tasks_fixed: Mapping[tuple[int, float], Overall]
    collapses: Mapping[str, Collapse]
    slopes: Mapping[tuple[str, str], Slope]

    def best_runs(self, block: Block, label: str) -> list[Record]:
        """Runs of a method at its best rate that are done, of all seeds."""
        return self.runs_at(block, label, block.sweep(label).lr)

    def settings(self, block: Block) -> Iterator[tuple[float | None, dict[str, list[Record]]]]:
        """What is compared: None for the best rates, or a fixed rate, and each method's runs there.

        Of all seeds, those that are done.
        """
        labels = [sweep.label for sweep in block.sweeps]
        if block.swept:
            yield None, {label: self.best_runs(block, label) for label in labels}
        for lr in block.recipe:
            yield lr, {label: self.runs_at(block, label, lr) for label in labels}

    def runs_at(self, block: Block, label: str, lr: float | None) -> list[Record]:
        """Runs of a method at a rate that are done, of all seeds; none of them where lr is None."""
        return [
            run.record
            for run in self.results.block(block.task, block.rank)
            if run.label == label
            and lr is not None
            and same_rate(run.record.lr, lr)
            and run.record.status == "done"
        ]


def find(
    results: Results, reference: str, targets: Mapping[str | None, float] | None = None
) -> Findings:
    """Analyse a study, finished or not.

    Args:
        results: its runs.
        reference: label that methods are compared with.
        targets: values of the validation metric to time, by task; under None, for all others.
    """
    asked = targets or {}
    blocks = tuple(_block(results, *key, reference, asked) for key in results.blocks())
    ranks = sorted({block.rank for block in blocks})
    tuned_over: dict[int, Overall] = {}
    fixed_over: dict[tuple[int, float], Overall] = {}
    for rank in ranks:
        at_rank = {block.task: block for block in blocks if block.rank == rank}
        found = _over({task: block.after for task, block in at_rank.items()}, reference)
        if found is not None:
            tuned_over[rank] = found
        for rate in results.design.recipe:
            fixed = {t: b.recipe[rate] for t, b in at_rank.items() if rate in b.recipe}
            if (found := _over(fixed, reference)) is not None:
                fixed_over[rank, rate] = found
    collapses = {
        task: found
        for task in dict.fromkeys(block.task for block in blocks)
        if (found := collapse(_points(results, task))) is not None
    }
    return Findings(
        results,
        reference,
        blocks,
        tuned_over,
        fixed_over,
        _corrected(collapses),
        _slopes(results, blocks),
    )


def _block(
    results: Results, task: str, rank: int, reference: str, asked: Mapping[str | None, float]
) -> Block:
    design, runs = results.design, results.block(task, rank)
    by_label = dict(results.labels(runs))
    first = runs[0].record
    split = _split(results, task)
    sweeps = tuple(tuned(results, task, rank))

    def at(label: str, lr: float | None) -> Scores:
        if lr is None:  # no rate works, or none has been run
            nowhere = any(run.record.status == "diverged" for run in by_label[label])
            return Scores({}, design.seeds if nowhere else ())
        values, diverged = scores_at(by_label[label], lr, split, design.seeds)
        return Scores(values, diverged, lr)

    recipe: dict[float, Comparison] = {}
    for rate in design.recipe:
        here = {
            label: at(label, rate)
            for label, own in by_label.items()
            if any(same_rate(run.record.lr, rate) for run in own)
        }
        if here:
            recipe[rate] = compare(here, reference, first.better, design.pairs)
    return Block(
        task,
        rank,
        first.metric,
        first.better,
        split,
        sweeps,
        compare(
            {s.label: at(s.label, s.lr) for s in sweeps}, reference, first.better, design.pairs
        ),
        recipe,
        {s.label: _width(s.rates, first.better) for s in sweeps},
        _targets(results, by_label, sweeps, reference, asked.get(task, asked.get(None))),
        {label: cost(own, design) for label, own in by_label.items()},
    )


def _split(results: Results, task: str) -> Split:
    records = [run.record for run in results.runs if run.task == task]
    return "test" if any(score(record, "test") is not None for record in records) else "validation"


def _width(rates: tuple[Rate, ...], better: Better) -> Width | None:
    values = [None if rate.diverged else rate.validation for rate in rates]
    known = [value for value in values if value is not None]
    if len(known) > 1 and len(set(known)) == 1:
        return None  # learnt nothing at any rate: that is not what is meant by easy to tune
    return width([rate.lr for rate in rates], values, better)


def _targets(
    results: Results,
    by_label: Mapping[str, list[Run]],
    sweeps: Iterable[Tuned],
    reference: str,
    target: float | None,
) -> Targets | None:
    at_best: dict[str, list[Record]] = {
        sweep.label: [
            run.record
            for run in by_label[sweep.label]
            if same_rate(run.record.lr, sweep.lr)
            and run.record.seed in results.design.seeds
            and run.record.status != "failed"
        ]
        for sweep in sweeps
        if sweep.lr is not None
    }
    drawn = [record for records in at_best.values() for record in records if record.curve]
    if not drawn:
        return None
    given = target is not None
    if target is None:
        target = reference_target(at_best.get(reference, []))
    if target is None:
        return None
    found = {
        label: tuple(reached(record, target) for record in records)
        for label, records in at_best.items()
    }
    return Targets(drawn[0].curve_metric[0], target, given, found)


def _over(comparisons: Mapping[str, Comparison], reference: str) -> Overall | None:
    """Over tasks, of the methods and seeds that each task has in full, divergence included.

    A task that nothing is known of yet, or whose methods have no rate of their own, orders none.
    """
    tasks: dict[str, TaskScores] = {}
    for task, comparison in comparisons.items():
        values = {
            line.label: {**line.scores.values, **dict.fromkeys(line.scores.diverged, np.nan)}
            for line in comparison.lines
        }
        every = set().union(*values.values())
        if not every:
            continue
        full = {label: seeds for label, seeds in values.items() if seeds.keys() == every}
        tasks[task] = TaskScores(comparison.better, full)
    return overall(tasks, reference)


def _points(results: Results, task: str) -> list[Point]:
    split = _split(results, task)
    found: list[Point] = []
    for label, own, record, _ in results.runs:
        value = score(record, split)
        if own == task and value is not None and record.update:
            found.append(Point(label, record.rank, record.lr, record.update, value))
    return found


def _corrected(collapses: Mapping[str, Collapse]) -> dict[str, Collapse]:
    """Tests of exchanged magnitudes, by Holm over tasks."""
    found = dict(collapses)
    raw = [each.exchange and each.exchange.p for each in collapses.values()]
    for (task, each), p in zip(collapses.items(), holm(raw), strict=True):
        if each.exchange is not None and p is not None:
            found[task] = each._replace(exchange=each.exchange._replace(p=p))
    return found


def _slopes(results: Results, blocks: Iterable[Block]) -> dict[tuple[str, str], Slope]:
    by_task: dict[str, list[Block]] = {}
    for block in blocks:
        by_task.setdefault(block.task, []).append(block)
    found: dict[tuple[str, str], Slope] = {}
    for task, own in by_task.items():
        for label in results.design.labels:
            having = [b for b in own if any(s.label == label and s.lr for s in b.sweeps)]
            slope = slope_over_ranks(
                [block.rank for block in having],
                [[rate.lr for rate in block.sweep(label).rates] for block in having],
                [_by_seed(results, block, label) for block in having],
                own[0].better,
            )
            if slope is not None:
                found[task, label] = slope
    return found


def _by_seed(results: Results, block: Block, label: str) -> np.ndarray:
    """Validation (rates, tuning seeds): NaN where there is none, infinite where it diverged."""
    runs = [run for run in results.block(block.task, block.rank) if run.label == label]
    seeds = results.design.tuning_seeds
    rows: list[list[float]] = []
    for rate in block.sweep(label).rates:
        values, diverged = scores_at(runs, rate.lr, "validation", seeds)
        values |= dict.fromkeys(diverged, np.inf)
        rows.append([values.get(seed, np.nan) for seed in seeds])
    return np.array(rows)
