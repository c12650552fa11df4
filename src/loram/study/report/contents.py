"""What stands in a report, and in which order."""

from pathlib import Path

from loram.study.findings import Findings
from loram.study.missing import missing
from loram.study.report import over_ranks, pictures, tables, wide
from loram.study.report.document import Document, Picture, Section, Table
from loram.study.report.numbers import rate
from loram.study.report.read import Found
from loram.study.report.words import conclusions

__all__ = ["contents"]

Part = str | tuple[str, ...] | Table | Picture

_SMALL_MULTIPLES = (
    " With many methods, each has its panel over all others in grey, the reference dashed."
)
_WHERE = "at each method's best rate, or at the fixed rate of the heading"


def contents(found: Found, findings: Findings, folder: Path) -> Document:
    """Draw the pictures and put the report together.

    Args:
        found: the study as read.
        findings: made of it.
        folder: for pictures, with their data.
    """
    design = findings.results.design
    sections = [
        Section("The study", tuple(_study(found, findings))),
        Section("What can be said", tuple(_said(findings))),
        Section("After tuning", tuple(_tuned(findings, folder))),
        Section("At fixed rates", tuple(_fixed(findings))),
        Section("Over tasks", tuple(_over(findings))),
        Section("Sensitivity to the learning rate", tuple(_sensitivity(findings, folder))),
        Section("Time to target", tuple(_timed(findings))),
        Section("Magnitude or learning rate", tuple(_magnitude(findings, folder))),
        Section("Over ranks", tuple(_ranks(findings, folder))),
        Section("Training curves", tuple(_curves(findings, folder))),
        Section("Cost", tuple(tables.costs(block) for block in findings.blocks)),
        Section("Diverged and failed runs", tuple(_only(wide.troubles(findings)))),
        Section("The paper's own numbers", tuple(_theirs(findings))),
        Section("How to read this", (_READING if design.low is None else (_TUNED, *_READING),)),
    ]
    title = f"{findings.results.design.name}: report of a comparison"
    return Document(title, tuple(section for section in sections if section.parts))


_TUNED = (
    "Each method's learning rate is the best by validation over the tuning seeds; what is "
    "reported is another split at that rate, over all seeds."
)
_READING = (
    "Brackets are 95 % intervals. [95 %, t] is Student's, on which claims about methods rest. The "
    "bootstrap's, those of mean ranks, scores and slopes among them, are too narrow with few seeds "
    "(three seeds: they cover about 75 %).",
    "p is of a paired t-test over equal seeds; with six seeds or more Wilcoxon's stands beside it. "
    "Holm's correction is over all comparisons with the reference in one table, or over the pairs "
    "of one; comparisons with the best mean are corrected over all pairs of methods.",
    "“No significant difference” says that these runs do not tell the methods apart, not that they "
    "are equal: with few seeds only large differences can be told.",
    "A run that diverged is a result, the worst there is. A run that failed by an error says "
    "nothing of its method and counts as missing.",
)


def _study(found: Found, findings: Findings) -> list[Part]:
    results = findings.results
    design = results.design
    models = sorted({run.record.model for run in results.runs})
    tuning = f"tuned on {_numbers(design.tuning_seeds)}"
    parts: list[Part] = [
        f"Model {', '.join(models) or '–'}; tasks {', '.join(design.tasks)}; ranks "
        f"{_numbers(design.ranks)}; {len(design.labels)} methods; seeds {_numbers(design.seeds)}, "
        f"{'fixed rates only' if design.low is None else tuning}; {len(results.runs)} runs."
    ]
    notes = list(
        wide.lacking(missing(results, {(b.task, b.rank): b.sweeps for b in findings.blocks}))
    )
    if notes:
        parts.append("The study is not finished. What follows is of the runs that are there.")
    if len(design.seeds) == 1:
        notes.append("One seed only: no intervals and no tests, so nothing is claimed.")
    notes += [
        f"{block.task}, rank {block.rank}: no run has test metrics; validation is shown instead, "
        "which the rates were chosen by and which is therefore too good."
        for block in findings.blocks
        if block.split == "validation"
    ]
    if found.unreadable:
        files = ", ".join(file.parent.name for file in found.unreadable)
        notes.append(f"Records that can't be read, left out: {files}.")
    if found.foreign:
        notes.append(f"Records of other studies in the folder, left out: {found.foreign}.")
    if found.repeated:
        notes.append(f"Runs with several records, the newest taken: {found.repeated}.")
    if notes:
        parts.append(tuple(notes))
    if results.runs:
        parts.append(wide.counts(findings))
    return parts


def _said(findings: Findings) -> list[Part]:
    parts: list[Part] = []
    for title, sentences in conclusions(findings):
        parts += [f"{title}:", sentences]
    return parts or ["There are no runs yet: nothing can be said."]


def _tuned(findings: Findings, folder: Path) -> list[Part]:
    blocks = [block for block in findings.blocks if block.swept]
    if not blocks:
        return []
    caption = (
        "Each method at its best rate: mean and Student's interval, ticks are seeds. Intervals "
        "that reach far beyond all seeds are cut."
    )
    drawn = pictures.draw_best(findings, folder)
    return [
        *_shown(drawn, caption),
        *(tables.after_tuning(block) for block in blocks),
        *(table for block in blocks for table in _only(tables.pairs(block))),
    ]


def _fixed(findings: Findings) -> list[Part]:
    return [
        table
        for block in findings.blocks
        for lr in block.recipe
        for table in (tables.at_fixed_rate(block, lr), *_only(tables.pairs(block, lr)))
    ]


def _over(findings: Findings) -> list[Part]:
    reference = findings.reference
    parts: list[Part] = [
        wide.over_tasks(each, f"Best rates, rank {rank}", reference)
        for rank, each in findings.over_tasks.items()
    ]
    parts += [
        wide.over_tasks(each, f"lr {rate(lr)}, rank {rank}", reference)
        for (rank, lr), each in findings.over_tasks_fixed.items()
    ]
    return parts


def _sensitivity(findings: Findings, folder: Path) -> list[Part]:
    parts: list[Part] = []
    for split in ("validation", "test"):
        caption = (
            f"Metric on {split} over the learning rate: mean of the tuning seeds, the band is "
            "their range; a circle is the chosen rate, a cross one at which a seed diverged."
        )
        drawn = pictures.draw_sensitivity(findings, folder, split)
        parts += _shown(drawn, caption + (_SMALL_MULTIPLES if len(drawn) > 1 else ""))
    return [*parts, *(tables.widths(block) for block in findings.blocks if block.swept)]


def _timed(findings: Findings) -> list[Part]:
    found = (tables.time_to_target(block, findings.reference) for block in findings.blocks)
    return [table for table in found if table is not None]


def _magnitude(findings: Findings, folder: Path) -> list[Part]:
    drawn = pictures.draw_collapse(findings, folder)
    caption = (
        "every run over its learning rate, and over the magnitude its update came to; the line is "
        "a local linear fit through all."
    )
    found = [wide.magnitudes(findings), wide.residuals(findings)]
    shown = [
        Picture(file, f"{task}: {caption}")
        for task, file in zip(findings.collapses, drawn, strict=False)
    ]
    return [*shown, *(table for table in found if table is not None)]


def _ranks(findings: Findings, folder: Path) -> list[Part]:
    drawn = over_ranks.draw_over_ranks(findings, folder)
    caption = (
        "Metric and magnitude of the update over rank: means over seeds, a band is Student's "
        "interval, a cross a rank at which a seed diverged."
    )
    return [
        *_shown(drawn, caption + (_SMALL_MULTIPLES if len(drawn) > 1 else "")),
        *over_ranks.over_ranks(findings),
        *_only(over_ranks.slopes(findings)),
    ]


def _curves(findings: Findings, folder: Path) -> list[Part]:
    losses = pictures.draw_losses(findings, folder)
    judged = pictures.draw_validation(findings, folder)
    return [
        *_shown(
            losses,
            f"Training loss {_WHERE}: mean over seeds, running mean over a twentieth of the steps.",
        ),
        *_shown(judged, f"Validation while training, {_WHERE}."),
    ]


def _theirs(findings: Findings) -> list[Part]:
    found = wide.theirs(findings)
    if not found:
        return []
    note = (
        "As printed in the paper: other models, other data, one fixed learning rate for all "
        "methods. They stand here for the order, not to be compared number by number."
    )
    return [note, *found]


def _numbers(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))


def _shown(drawn: list[Path], caption: str) -> list[Part]:
    return [Picture(file, caption) for file in drawn]


def _only(table: Table | None) -> list[Part]:
    return [] if table is None else [table]
