"""The tables of a report about a whole study."""

from collections import Counter

from loram.study.across import Overall
from loram.study.collapse import Advantage
from loram.study.findings import Findings
from loram.study.missing import Missing
from loram.study.report.document import Table
from loram.study.report.numbers import NONE, interval, number, p_equals, p_value, rate
from loram.study.report.published import published

__all__ = [
    "counts",
    "lacking",
    "magnitudes",
    "over_tasks",
    "residuals",
    "theirs",
    "troubles",
]

_SHOWN = 40  # lines of runs that came to nothing


def over_tasks(overall: Overall, title: str, reference: str) -> Table:
    """Mean ranks and normalised scores."""
    rows = tuple(
        (
            each.label,
            f"{each.rank:.2f}" + _two(each.rank_bounds),
            f"{each.score:z.3f}" + _two(each.score_bounds),
            NONE if each.against is None else interval(each.against.difference),
            p_value(each.p),
        )
        for each in overall.standings
    )
    notes = [
        "Score: 0 and 1 are the worst and the best method's mean of a task. Bounds of rank and "
        "score: paired bootstrap of the seeds within each task."
    ]
    if overall.friedman is not None:
        notes.append(
            f"Friedman over tasks: {p_equals(overall.friedman.p)}; Nemenyi's critical "
            f"difference of mean ranks {overall.friedman.critical:.2f}."
        )
    else:
        notes.append("Friedman's test over tasks needs five tasks and three methods.")
    broken = [f"{each.label} {each.diverged}" for each in overall.standings if each.diverged]
    if broken:
        notes.append(
            f"Runs that diverged: {', '.join(broken)}. Nothing is said in favour of these methods."
        )
    return Table(
        f"{title}: {len(overall.tasks)} tasks ({', '.join(overall.tasks)})",
        ("method", "mean rank", "score", f"score − {reference} [95 %, t]", "p, Holm"),
        rows,
        tuple(notes),
    )


def _two(found: tuple[float, float] | None) -> str:
    return "" if found is None else f" [{found[0]:z.2f}, {found[1]:z.2f}]"


def counts(findings: Findings) -> Table:
    """Runs by method and status."""
    runs = findings.results.runs
    number_of = Counter((run.label, run.record.status) for run in runs)
    states = ("done", "diverged", "failed")
    rows = [
        (label, *(str(number_of[label, state]) for state in states))
        for label in findings.results.design.labels
    ]
    total = Counter(run.record.status for run in runs)
    rows.append(("all", *(str(total[state]) for state in states)))
    return Table("Runs", ("method", *states), tuple(rows))


def troubles(findings: Findings) -> Table | None:
    """Runs that diverged or failed, and what they said; None if there are none."""
    found = [run for run in findings.results.runs if run.record.status != "done"]
    if not found:
        return None
    seeds: dict[tuple[str, ...], list[int]] = {}
    for run in sorted(found, key=lambda r: (r.record.status != "failed", r.task, r.record.lr)):
        error = (run.record.error or NONE).splitlines()[0][:100]
        key = (run.label, run.task, str(run.record.rank), rate(run.record.lr))
        seeds.setdefault((*key, run.record.status, error), []).append(run.record.seed)
    rows = tuple((*key, ", ".join(map(str, sorted(own)))) for key, own in seeds.items())
    notes = ()
    if len(rows) > _SHOWN:
        notes = (f"The first {_SHOWN} of {len(rows)} lines; all runs are in runs.csv.",)
    headings = ("method", "task", "rank", "lr", "status", "error", "seeds")
    return Table(f"{len(found)} runs without a result", headings, rows[:_SHOWN], notes)


def lacking(found: list[Missing]) -> tuple[str, ...]:
    """What is missing, a sentence a kind of run."""
    return tuple(
        f"{each.task}, rank {each.rank}, {each.what}: {sum(each.lacking.values())} of {each.of} "
        f"runs have no result ({', '.join(f'{k} {v}' for k, v in each.lacking.items())})."
        for each in found
    )


def magnitudes(findings: Findings) -> Table | None:
    """How well magnitude and rate predict other methods' results."""
    if not findings.collapses:
        return None

    rows = tuple(
        (
            task,
            str(found.runs),
            str(found.methods),
            f"{found.by_update.r2:.3f}",
            NONE if found.exchange is None else f"{found.exchange.exchanged:.3f}",
            NONE if found.exchange is None else p_value(found.exchange.p),
            f"{found.by_lr.r2:.3f}",
            _difference(found.advantage),
            number(found.by_update.rmse),
            number(found.by_lr.rmse),
        )
        for task, found in findings.collapses.items()
    )
    headings = ("task", "runs", "methods", "R², ν[W_LoRA]", "exchanged", "p", "R², lr")
    return Table(
        "Each method predicted from the curve of all others",
        (*headings, "R² by ν − by lr", "RMSE, ν[W_LoRA]", "RMSE, lr"),
        rows,
        (
            "exchanged: median R² when methods take each other's ν[W_LoRA] at a rate; p: share of "
            "exchanges that predict as well as the true ones, by Holm over tasks, if methods are "
            "exchangeable, not variants of one. Bounds: jackknife over methods. Below 0, the mean "
            "of all runs would predict better.",
        ),
    )


def _difference(found: Advantage) -> str:
    low, high = found.low, found.high
    return f"{found.r2:.3f}" + _two(None if low is None or high is None else (low, high))


def residuals(findings: Findings) -> Table | None:
    """How far each method lies from the others' curve at its own magnitudes."""
    if not findings.collapses:
        return None
    tasks = list(findings.collapses)
    by_task = {
        task: {each.label: f"{number(each.mean)} ({each.runs})" for each in found.residuals}
        for task, found in findings.collapses.items()
    }
    labels = [
        label
        for label in findings.results.design.labels
        if any(label in by_task[task] for task in tasks)
    ]
    rows = tuple((label, *(by_task[t].get(label, NONE) for t in tasks)) for label in labels)
    return Table(
        "Mean metric minus the others' curve at equal ν[W_LoRA] (runs)",
        ("method", *tasks),
        rows,
        (
            "In the metric's own units: above 0 is better than the others' curve where more is "
            "better, below 0 where less is. A description, not a corrected test.",
        ),
    )


def theirs(findings: Findings) -> list[Table]:
    """The paper's tables where a task is the same."""
    found: list[Table] = []
    # A label may say anything; a loss is not what the paper's tables hold.
    judged = {run.record.task for run in findings.results.runs if run.record.metric != "loss"}
    for source, columns in published(judged):
        rows = tuple(
            (method, rank, *(values[k] or NONE for k in columns))
            for rank, method, values in source.rows
        )
        found.append(
            Table(
                f"Theirs: arXiv 2507.06558, table {source.table}. {source.what}",
                ("method", "rank", *(source.tasks[k] for k in columns)),
                rows,
                (source.note,) if source.note else (),
            )
        )
    return found
