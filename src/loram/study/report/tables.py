"""The tables of a report about one task and rank."""

from collections.abc import Callable

from loram.study.comparison import Comparison, Line, verdict
from loram.study.findings import Block
from loram.study.report.document import Table
from loram.study.report.numbers import (
    NONE,
    amount,
    bounds,
    interval,
    number,
    p_value,
    rate,
    seconds,
)
from loram.study.report.words import title_of
from loram.study.select import End, Tuned
from loram.study.sensitivity import Width

__all__ = ["after_tuning", "at_fixed_rate", "costs", "pairs", "time_to_target", "widths"]

_EDGES: dict[End | None, str] = {
    None: "",
    "low": " (low end)",
    "high": " (high end)",
    "only": " (only one)",
}
_EDGE_NOTE = (
    "Low or high end: the best rate is the last of the grid, the true optimum may lie beyond it."
)


_SIGNS = {  # in the column of widths
    "≥": "≥: the range reaches the end of the grid and is at least so wide.",
    NONE: f"{NONE}: no rate works, or none is better than another.",
}


def after_tuning(block: Block) -> Table:
    """Every method at its own best rate."""
    sweeps = {sweep.label: sweep for sweep in block.sweeps}
    compared, headings = _compared(block.after)
    rows = tuple(
        (
            line.label,
            _best(sweeps[line.label]),
            number(sweeps[line.label].validation),
            *compared(line),
        )
        for line in block.after.lines
    )
    notes = (_EDGE_NOTE,) if any(sweep.edge for sweep in block.sweeps) else ()
    return Table(
        f"{title_of(block)}: {block.metric} on {block.split} ({block.better} is better)",
        ("method", "best lr", "validation", *headings),
        rows,
        notes,
    )


def at_fixed_rate(block: Block, lr: float) -> Table:
    """Every method at one rate, best first."""
    compared, headings = _compared(block.recipe[lr])
    return Table(
        f"{title_of(block, lr)}: {block.metric} on {block.split} ({block.better} is better)",
        ("method", *headings),
        tuple((line.label, *compared(line)) for line in block.recipe[lr].lines),
    )


def pairs(block: Block, lr: float | None = None) -> Table | None:
    """The study's own pairs at each method's best rate or at a fixed one; None without any."""
    comparison = block.after if lr is None else block.recipe[lr]
    if not comparison.pairs:
        return None
    rows = tuple(
        (
            first.label,
            second.label,
            interval(first.mean),
            interval(second.mean),
            f"{_seeds(first)}; {_seeds(second)}",
            *_difference(first),
            verdict(first, second.scores, comparison.better),
        )
        for first, second in comparison.pairs
    )
    return Table(
        f"{title_of(block, lr)}: pairs, {block.metric} on {block.split} ({block.better} is better)",
        (
            "method",
            "compared with",
            "mean [95 %, t]",
            "the other's",
            "seeds",
            "difference [95 %, t]",
            "p",
            "p, Holm",
            "verdict",
        ),
        rows,
        ("Asked for by the study's file; Holm's correction is over this table.",),
    )


def _compared(
    comparison: Comparison,
) -> tuple[Callable[[Line], tuple[str, ...]], tuple[str, ...]]:
    """What makes a line's cells, and their headings."""
    reference = comparison.reference
    base = next((line for line in comparison.lines if line.label == reference), None)
    signed = any(line.against and line.against.wilcoxon for line in comparison.lines)
    headings = ("mean [95 %, t]", "[bootstrap]", "seeds")
    if base is not None:
        headings += (f"− {reference} [95 %, t]", "p", "p, Holm")
        headings += ("p, Wilcoxon",) if signed else ()
        headings += ("verdict",)

    def cells(line: Line) -> tuple[str, ...]:
        resampled = line.resampled
        own = (
            interval(line.mean),
            NONE if resampled is None else bounds(resampled.low, resampled.high).strip() or NONE,
            _seeds(line),
        )
        if base is None:
            return own
        if line is base:
            return (*own, *(NONE for _ in headings[len(own) : -1]), "reference")
        test = line.against
        return (
            *own,
            *_difference(line),
            *((p_value(None if test is None else test.wilcoxon),) if signed else ()),
            verdict(line, base.scores, comparison.better),
        )

    return cells, headings


def _difference(line: Line) -> tuple[str, str, str]:
    """To what it is compared with, its p, and that corrected."""
    test = line.against
    if test is None:
        return NONE, NONE, p_value(line.p)
    return interval(test.difference), p_value(test.p), p_value(line.p)


def _seeds(line: Line) -> str:
    diverged = len(line.scores.diverged)
    done = len(line.scores.values)
    return f"{done} + {diverged} diverged" if diverged else str(done)


def _best(sweep: Tuned) -> str:
    if sweep.lr is None:
        return "none works" if sweep.rates else "not swept"
    return rate(sweep.lr) + _EDGES[sweep.edge]


def widths(block: Block) -> Table:
    """How wide each method's range of good rates is, widest first."""
    found = sorted(
        block.widths.items(), key=lambda each: -1.0 if each[1] is None else -each[1].decades
    )
    found.sort(key=lambda each: each[1] is None)
    rows: list[tuple[str, ...]] = []
    for label, width in found:
        sweep = block.sweep(label)
        tried = f"{len(sweep.rates)}, {sum(1 for r in sweep.rates if r.diverged)} diverged"
        rows.append((label, _best(sweep), *_width(width), tried))
    return Table(
        f"{title_of(block)}: rates within 2 % of the best validation {block.metric}",
        ("method", "best lr", "width, decades", "from", "to", "rates tried"),
        tuple(rows),
        tuple(
            said for sign, said in _SIGNS.items() if any(row[2].startswith(sign) for row in rows)
        ),
    )


def _width(width: Width | None) -> tuple[str, str, str]:
    if width is None:
        return NONE, NONE, NONE
    least = "≥ " if width.open_low or width.open_high else ""
    return (
        f"{least}{width.decades:.2f}",
        ("≤ " if width.open_low else "") + rate(width.low),
        ("≥ " if width.open_high else "") + rate(width.high),
    )


def time_to_target(block: Block, reference: str) -> Table | None:
    """When each method's validation first reached the target; None without curves."""
    targets = block.targets
    if targets is None:
        return None
    rows: list[tuple[str, ...]] = []
    for label, found in targets.reached.items():
        there = [each for each in found if each is not None]
        cells = (NONE, NONE, NONE)
        if there:
            # Of the seeds that got there; how many did stands beside it.
            middle = sorted(there, key=lambda each: each.step)[(len(there) - 1) // 2]
            cells = (str(middle.step), seconds(middle.seconds), seconds(middle.with_init))
        rows.append((label, f"{len(there)} of {len(found)}", *cells))
    whose = "given" if targets.given else f"mean best of {reference} on its curves"
    return Table(
        f"{title_of(block)}: time to a validation {targets.metric} of {number(targets.target)} "
        f"({whose})",
        ("method", "seeds that reach it", "steps", "training", "with the start"),
        tuple(rows),
        ("Of the median seed among those that reach it, at each method's best rate.",),
    )


def costs(block: Block) -> Table:
    """What each method took."""
    rows = tuple(
        (
            label,
            *((str(cost.tuning_runs), seconds(cost.tuning_seconds)) if block.swept else ()),
            seconds(cost.init_seconds),
            seconds(cost.train_seconds),
            NONE if cost.peak_memory is None else f"{cost.peak_memory / 2**20:,.0f} MiB",
            amount(cost.calibration_tokens),
            amount(cost.trainable),
        )
        for label, cost in block.costs.items()
    )
    tuning = ("tuning runs", "tuning time") if block.swept else ()
    headings = ("start", "training", "peak memory", "calibration tokens", "trainable")
    note = "Start, training and peak memory: median of a run. On a CPU the peak is the worker's: "
    note += "some of it is heap that its earlier runs have left."
    return Table(
        title_of(block),
        ("method", *tuning, *headings),
        rows,
        (f"{note} Tuning time includes starts, not judging." if block.swept else note,),
    )
