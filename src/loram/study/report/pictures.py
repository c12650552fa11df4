"""The pictures of a report: each as PNG and SVG, its data beside it as CSV."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from loram.figures.style import CYCLE, GREY, INK, canvas, mathtext, save, write_csv
from loram.study.findings import Block, Findings
from loram.study.record import Record
from loram.study.report.lines import Axes, Line, draw_lines, slug
from loram.study.report.numbers import rate
from loram.study.report.words import title_of
from loram.study.results import Results, same_rate, score

__all__ = ["draw_best", "draw_collapse", "draw_losses", "draw_sensitivity", "draw_validation"]

_FEW = 4  # fixed rates, which are named on the axis
_MARKERS = ("o", "s", "^", "D", "v")  # five to six colours: thirty methods can be told apart


def draw_best(findings: Findings, folder: Path) -> list[Path]:
    """Means and intervals at each method's best rate, a panel a task and rank."""
    blocks = [b for b in findings.blocks if any(line.mean for line in b.after.lines)]
    if not blocks:
        return []
    columns = min(len(blocks), 3)
    rows = -(-len(blocks) // columns)
    most = max(len(block.after.lines) for block in blocks)
    size = (1 + 3.7 * columns, 0.5 + rows * (0.9 + 0.24 * most))
    figure, panels = canvas(rows, columns, size=size)
    data: list[tuple[object, ...]] = []
    for panel, block in zip(panels, blocks, strict=False):
        lines = [line for line in block.after.lines if line.mean is not None]
        for height, line in enumerate(reversed(lines)):
            mean = line.mean
            assert mean is not None  # the others were left out
            colour = CYCLE[1][0] if line.label == findings.reference else CYCLE[0][0]
            if mean.low is not None and mean.high is not None:
                panel.plot([mean.low, mean.high], [height, height], color=colour, linewidth=1.6)
            values = list(line.scores.values.values())
            panel.plot(values, [height] * len(values), "|", color=GREY, markersize=6)
            panel.plot([mean.mean], [height], "o", color=colour, markersize=5)
            data.append((title_of(block), line.label, line.scores.lr, *mean))
            if line.label == findings.reference:
                panel.axvline(mean.mean, color=colour, linewidth=0.8, linestyle=":", zorder=0)
        panel.set_yticks(range(len(lines)), [line.label for line in reversed(lines)], fontsize=8)
        panel.set_title(title_of(block), loc="left", fontsize=10)
        panel.set_xlabel(f"{block.metric}, {block.split}", fontsize=9)
        panel.tick_params(axis="x", labelsize=8)
        _within(panel, [v for line in lines for v in line.scores.values.values()])
    for panel in panels[len(blocks) :]:
        panel.set_visible(False)
    picture = folder / "best.png"
    write_csv(picture, ("block", "method", "lr", "mean", "low", "high", "seeds"), data)
    return [save(figure, picture)]


def _within(panel: object, values: Sequence[float]) -> None:
    """An interval from two seeds that disagree may be many times wider than all the methods."""
    low, high = min(values), max(values)
    reach = max(high - low, 1e-3 * abs(high), 1e-9)
    left, right = panel.get_xlim()  # pyright: ignore[reportAttributeAccessIssue]
    panel.set_xlim(max(left, low - 0.5 * reach), min(right, high + 0.5 * reach))  # pyright: ignore[reportAttributeAccessIssue]


def draw_sensitivity(
    findings: Findings, folder: Path, split: Literal["validation", "test"]
) -> list[Path]:
    """The metric over the grid of learning rates: mean and range of the tuning seeds."""
    panels: dict[str, dict[str, Line]] = {}
    data: list[tuple[object, ...]] = []
    for block in findings.blocks:
        title = title_of(block)
        panels[title] = {}
        for sweep in block.sweeps:
            records = _records(findings, block, sweep.label)
            line = _over_rates(records, [each.lr for each in sweep.rates], sweep.lr, split)
            if line is not None:
                panels[title][sweep.label] = line
                assert line.low is not None
                assert line.high is not None
                data += [
                    (title, sweep.label, *row)
                    for row in zip(line.x, line.y, line.low, line.high, strict=True)
                ]
    picture = folder / f"sensitivity_{split}.png"
    axes = Axes(
        "learning rate",
        {title_of(b): f"{b.metric}, {split}" for b in findings.blocks},
        log_x=True,
        clip={title_of(b): b.better == "low" for b in findings.blocks},
    )
    labels = findings.results.design.labels
    drawn = draw_lines(picture, panels, axes, labels, findings.reference)
    if drawn:
        write_csv(picture, ("block", "method", "lr", "mean", "lowest", "highest"), data)
    return drawn


def _records(findings: Findings, block: Block, label: str) -> list[Record]:
    design = findings.results.design
    return [
        run.record
        for run in findings.results.block(block.task, block.rank)
        if run.label == label and design.tunes(run)
    ]


def _over_rates(
    records: Iterable[Record],
    lrs: Sequence[float],
    best: float | None,
    split: Literal["validation", "test"],
) -> Line | None:
    by_rate = [[r for r in records if same_rate(r.lr, lr)] for lr in lrs]
    values = [[v for r in here if (v := score(r, split)) is not None] for here in by_rate]
    if not any(values):
        return None
    means = [float(np.mean(each)) if each else np.nan for each in values]
    mark = next(
        ((lr, y) for lr, y in zip(lrs, means, strict=True) if best is not None and lr == best), None
    )
    return Line(
        lrs,
        means,
        [min(each, default=np.nan) for each in values],
        [max(each, default=np.nan) for each in values],
        mark,
        [
            lr
            for lr, here in zip(lrs, by_rate, strict=True)
            if any(r.status == "diverged" for r in here)
        ],
    )


def draw_losses(findings: Findings, folder: Path) -> list[Path]:
    """Training loss at the best rates and at fixed ones: mean over seeds, running mean."""
    panels: dict[str, dict[str, Line]] = {}
    data: list[tuple[object, ...]] = []
    for title, _, runs in _settings(findings):
        lines = panels[title] = {}
        for label, records in runs.items():
            losses = [record.losses for record in records if record.losses]
            if not losses:
                continue
            shortest = min(map(len, losses))
            mean = np.mean([each[:shortest] for each in losses], axis=0)
            window = max(1, shortest // 20)
            smooth = np.convolve(mean, np.full(window, 1 / window), mode="valid")
            steps = list(range(window, shortest + 1))
            lines[label] = Line(steps, smooth.tolist())
            data += [(title, label, step + 1, loss) for step, loss in enumerate(mean.tolist())]
    picture = folder / "losses.png"
    axes = Axes("step", dict.fromkeys(panels, "training loss"))
    labels = findings.results.design.labels
    drawn = draw_lines(picture, panels, axes, labels, findings.reference)
    if drawn:
        write_csv(picture, ("block", "method", "step", "loss"), data)
    return drawn


def draw_validation(findings: Findings, folder: Path) -> list[Path]:
    """Validation over steps at the best rates and at fixed ones: mean and range over seeds."""
    panels: dict[str, dict[str, Line]] = {}
    metrics: dict[str, str] = {}
    data: list[tuple[object, ...]] = []
    for title, block, runs in _settings(findings):
        lines = panels[title] = {}
        metrics[title] = f"{block.metric}, validation"
        for label, records in runs.items():
            by_step: dict[int, list[float]] = {}
            for record in records:
                metric, _ = record.curve_metric
                for judged in record.curve:
                    if metric in judged.metrics:
                        metrics[title] = f"{metric}, validation"
                        by_step.setdefault(judged.step, []).append(judged.metrics[metric])
            if not by_step:
                continue
            steps = sorted(by_step)
            means = [float(np.mean(by_step[step])) for step in steps]
            low, high = ([pick(by_step[step]) for step in steps] for pick in (min, max))
            lines[label] = Line(steps, means, low, high)
            data += [(title, label, *row) for row in zip(steps, means, low, high, strict=True)]
    picture = folder / "curves.png"
    axes = Axes("step", metrics)
    labels = findings.results.design.labels
    drawn = draw_lines(picture, panels, axes, labels, findings.reference)
    if drawn:
        write_csv(picture, ("block", "method", "step", "mean", "lowest", "highest"), data)
    return drawn


def _settings(findings: Findings) -> Iterator[tuple[str, Block, dict[str, list[Record]]]]:
    """Heading, block, and runs by method: of the best rates, then of each fixed one."""
    for block in findings.blocks:
        for lr, runs in findings.settings(block):
            yield title_of(block, lr), block, runs


def draw_collapse(findings: Findings, folder: Path) -> list[Path]:
    """Every run that is done, over its learning rate and over the magnitude it came to."""
    drawn: list[Path] = []
    labels = findings.results.design.labels
    for task, found in findings.collapses.items():
        block = next(block for block in findings.blocks if block.task == task)
        figure, panels = canvas(1, 2, size=(10.5, 4.2), sharey=True)
        data: list[tuple[str, float, float, float, int, int]] = []
        handles: list[object] = []
        shown: list[str] = []
        top = _highest(findings.results, task, block)
        for k, label in enumerate(labels):
            points = [
                (run.record.lr, run.record.update, value, run.record.rank, run.record.seed)
                for run in findings.results.runs
                if (run.label, run.task) == (label, task)
                and run.record.update
                and (value := score(run.record, block.split)) is not None
            ]
            if not points:
                continue
            x = [[point[column] for point in points] for column in (0, 1)]
            y = [min(point[2], top) for point in points]
            colour, _ = CYCLE[k % len(CYCLE)]
            style = {"color": colour, "markersize": 4, "alpha": 0.75, "markeredgewidth": 0}
            for panel, values in zip(panels, x, strict=True):
                drawn_points = panel.plot(values, y, _MARKERS[k % len(_MARKERS)], **style)
                if panel is panels[0]:
                    handles += drawn_points
            shown.append(label)
            data += [(label, *point) for point in points]
        panels[1].plot(*zip(*found.curve, strict=True), color=INK, linewidth=1.3, zorder=5)
        names = ("learning rate", "ν[W_LoRA] after training")
        for panel, name, share in zip(panels, names, (found.by_lr, found.by_update), strict=True):
            panel.set_xscale("log")
            panel.set_xlabel(mathtext(name), fontsize=10)
            panel.set_title(f"others predicted: R² = {share.r2:.2f}", loc="left", fontsize=10)
        rates = sorted({run.record.lr for run in findings.results.runs if run.task == task})
        decades = math.floor(math.log10(rates[-1])) - math.ceil(math.log10(rates[0]))
        if len(rates) <= _FEW or decades < 1:  # the usual ticks would run into one another
            panels[0].set_xticks(rates, [rate(lr) for lr in rates], fontsize=8)
            panels[0].minorticks_off()
        panels[0].set_ylabel(f"{block.metric}, {block.split}", fontsize=10)
        above = [row for row in data if row[3] > top]
        for panel, column in zip(panels, (1, 2), strict=True):
            x = [row[column] for row in above]
            panel.plot(x, [top] * len(x), "^", markersize=8, markerfacecolor="none", color=INK)
        if above:  # the line may leave the panel
            bottom = min(row[3] for row in data)
            margin = 0.05 * (top - bottom)
            panels[0].set_ylim(bottom - margin, top + margin)
            panels[1].set_title("△ above", loc="right", fontsize=8)
        figure.suptitle(task, x=0.01, ha="left", fontsize=12)
        figure.legend(handles, shown, loc="outside right center", frameon=False, fontsize=8)
        picture = folder / f"magnitude_{slug(task)}.png"
        write_csv(picture, ("method", "lr", "nu_update", block.metric, "rank", "seed"), data)
        drawn.append(save(figure, picture))
    return drawn


def _highest(results: Results, task: str, block: Block) -> float:
    """The value that higher ones are drawn at: losses far above the first step's hide the rest."""
    runs = [run.record for run in results.runs if run.task == task]
    first = [record.losses[0] for record in runs if record.losses]
    values = [value for each in runs if (value := score(each, block.split)) is not None]
    if block.metric != "loss" or not first or max(first) <= min(values):
        return math.inf
    return max(first)
