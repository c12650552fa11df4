"""How results, magnitudes and best rates move with rank, where a study has several ranks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from loram.figures.style import write_csv
from loram.study.comparison import Comparison
from loram.study.findings import Block, Findings
from loram.study.report.document import Table
from loram.study.report.lines import Axes, Line, draw_lines
from loram.study.report.numbers import NONE, bounds, number, rate
from loram.study.statistics import Interval

__all__ = ["draw_over_ranks", "over_ranks", "slopes"]

_MEANS = "Means over seeds; intervals are in the tables of each rank."
_SLOPE = "Slope: ν[W_LoRA] goes as rank to this power, by least squares in logarithms."
_MAGNITUDE = "ν[W_LoRA] after training"


class _At(NamedTuple):
    """A method at one rank.

    Attributes:
        metric: over seeds; None without numbers.
        update: mean ν[W_LoRA] of the same runs; None likewise.
        diverged: seeds.
    """

    metric: Interval | None
    update: float | None
    diverged: int = 0


class _Setting(NamedTuple):
    """A task at the best rates, or at a fixed one, over its ranks.

    Attributes:
        title: heading.
        fixed: whether all ranks have one rate.
        block: of the first rank.
        ranks: two or more, ascending.
        methods: by label and rank.
    """

    title: str
    fixed: bool
    block: Block
    ranks: tuple[int, ...]
    methods: Mapping[str, Mapping[int, _At]]


def over_ranks(findings: Findings) -> list[Table]:
    """Each method's mean and ν[W_LoRA] by rank, a table for each setting."""
    return [
        Table(
            f"{each.title}: {each.block.metric} on {each.block.split} ({each.block.better} is "
            "better), ν[W_LoRA], by rank",
            ("method", *map(str, each.ranks), *(("slope of log ν",) if each.fixed else ())),
            tuple(
                (
                    label,
                    *(_cell(at.get(rank)) for rank in each.ranks),
                    *((_slope(at),) if each.fixed else ()),
                )
                for label, at in each.methods.items()
            ),
            (_MEANS, _SLOPE) if each.fixed else (_MEANS,),
        )
        for each in _settings(findings)
    ]


def _cell(found: _At | None) -> str:
    if found is None:
        return NONE
    numbers = NONE
    if found.metric is not None:
        numbers = f"{number(found.metric.mean)}, {rate(found.update)}"
    return numbers + (f" ({found.diverged} diverged)" if found.diverged else "")


def _slope(at: Mapping[int, _At]) -> str:
    known = [(math.log(rank), math.log(each.update)) for rank, each in at.items() if each.update]
    if len(known) < 2:
        return NONE
    x, y = np.array(known).T
    return f"{np.polyfit(x, y, 1)[0]:+.2f}"


def draw_over_ranks(findings: Findings, folder: Path) -> list[Path]:
    """The metric with Student's interval, and ν[W_LoRA], over rank."""
    panels: dict[str, dict[str, Line]] = {}
    names: dict[str, str] = {}
    data: list[tuple[object, ...]] = []
    every: set[int] = set()
    for title, _, block, ranks, methods in _settings(findings):
        every |= set(ranks)
        of_update = f"{title}: magnitude"
        names |= {title: f"{block.metric}, {block.split}", of_update: _MAGNITUDE}
        panels |= {title: {}, of_update: {}}
        for label, at in methods.items():
            known = {rank: at.get(rank, _At(None, None)) for rank in ranks}
            panels[title][label] = _line(known)
            updates = [each.update or math.nan for each in known.values()]
            if not all(map(math.isnan, updates)):
                panels[of_update][label] = Line(ranks, updates)
            data += [
                (title, label, rank, *(each.metric or (None,) * 4), each.update, each.diverged)
                for rank, each in known.items()
            ]
    picture = folder / "ranks.png"
    magnitudes = frozenset(title for title, name in names.items() if name == _MAGNITUDE)
    axes = Axes("rank", names, log_x=True, log_y=magnitudes, ticks=sorted(every))
    labels = findings.results.design.labels
    drawn = draw_lines(picture, panels, axes, labels, findings.reference)
    if drawn:
        interval = ("mean", "low", "high", "seeds")
        headings = ("setting", "method", "rank", *interval, "nu_update", "diverged")
        write_csv(picture, headings, data)
    return drawn


def _line(at: Mapping[int, _At]) -> Line:
    nothing = Interval(math.nan, None, None, 0)
    found = [each.metric or nothing for each in at.values()]
    return Line(
        list(at),
        [each.mean for each in found],
        [math.nan if each.low is None else each.low for each in found],
        [math.nan if each.high is None else each.high for each in found],
        crosses=[rank for rank, each in at.items() if each.diverged],
    )


def _settings(findings: Findings) -> Iterator[_Setting]:
    by_task: dict[str, list[Block]] = {}
    for block in findings.blocks:
        by_task.setdefault(block.task, []).append(block)
    for task, blocks in by_task.items():
        if len(blocks) < 2:
            continue
        blocks.sort(key=lambda block: block.rank)
        tuned = [(block, block.after) for block in blocks if block.swept]
        if len(tuned) > 1:
            yield _over(findings, f"{task}, best rates", tuned, fixed=False)
        for lr in dict.fromkeys(lr for block in blocks for lr in block.recipe):
            here = [(block, block.recipe[lr]) for block in blocks if lr in block.recipe]
            if len(here) > 1:
                yield _over(findings, f"{task}, lr {rate(lr)}", here, fixed=True)


def _over(
    findings: Findings,
    title: str,
    comparisons: Sequence[tuple[Block, Comparison]],
    *,
    fixed: bool,
) -> _Setting:
    methods: dict[str, dict[int, _At]] = {label: {} for label in findings.results.design.labels}
    for block, comparison in comparisons:
        for line in comparison.lines:
            updates = [
                each.update
                for each in findings.runs_at(block, line.label, line.scores.lr)
                if each.update and each.seed in line.scores.values
            ]
            methods[line.label][block.rank] = _At(
                line.mean,
                float(np.mean(updates)) if updates else None,
                len(line.scores.diverged),
            )
    blocks = [block for block, _ in comparisons]
    found = {label: at for label, at in methods.items() if at}
    return _Setting(title, fixed, blocks[0], tuple(block.rank for block in blocks), found)


def slopes(findings: Findings) -> Table | None:
    """How the best rate moves with rank."""
    if not findings.slopes:
        return None
    tasks = list(dict.fromkeys(task for task, _ in findings.slopes))
    labels = [
        label
        for label in findings.results.design.labels
        if any((task, label) in findings.slopes for task in tasks)
    ]
    rows = tuple(
        (
            label,
            *(
                NONE
                if (found := findings.slopes.get((task, label))) is None
                else f"{found.slope:+.2f}" + bounds(found.low, found.high)
                for task in tasks
            ),
        )
        for label in labels
    )
    return Table(
        "Slope of log best lr over log rank",
        ("method", *tasks),
        rows,
        ("0: the best rate does not move with rank. Bounds: bootstrap over tuning seeds.",),
    )
