"""The verb `compare`: read, check, forecast or run a study, and say what came of it."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loram.study import live
from loram.study.check import check_folder
from loram.study.engine import Engine, EngineName
from loram.study.estimate import Forecast, forecast
from loram.study.execute import execute
from loram.study.local import LocalEngine
from loram.study.plan import Plan
from loram.study.reuse import reusable, reuse
from loram.study.runner import End, Finished, study
from loram.study.spec import Spec, read
from loram.study.store import Store
from loram.study.versions import deciding

__all__ = ["ENGINES", "compare"]


def _local(out: Path, spec: Spec) -> Engine:
    return LocalEngine(out, execute, workers=spec.workers, threads=spec.threads)


def _ray(out: Path, spec: Spec) -> Engine:
    from loram.study.cluster import RayEngine

    return RayEngine(out, execute, workers=spec.workers, threads=spec.threads)


ENGINES: dict[EngineName, Callable[[Path, Spec], Engine]] = {"local": _local, "ray": _ray}
"""What runs a study's jobs, by name."""


def compare(
    file: Path,
    out: Path,
    *,
    console: Console,
    dry_run: bool = False,
    workers: int | None = None,
    engine: EngineName = "local",
    limit_hours: float | None = None,
    reused: Sequence[Path] = (),
) -> Finished | None:
    """Run a study, or say what it would do.

    Args:
        file: YAML of the study.
        out: its folder.
        console: to print on.
        dry_run: print the plan only; nothing is written.
        workers: instead of the study's own.
        engine: where.
        limit_hours: start no run after this time.
        reused: folders of studies, or `runs.parquet` of reports, whose runs are taken over.

    Raises:
        StudyError: the study can't be read or run; all problems at once.
        DiskFullError: no room.
    """
    spec = read(file)
    if workers is not None:
        spec = spec.model_copy(update={"workers": workers})
    plan = Plan(spec, deciding())
    check_folder(spec, out)
    known = reusable(reused)
    if dry_run:
        known += Store(out).records() if (out / "runs").is_dir() else []
        _print_forecast(forecast(plan, known), spec, console)
        return None
    if reused:
        taken = reuse(known, Store(out))
        sources = escape(", ".join(map(str, reused)))
        console.print(f"{taken} runs taken over from {sources}", highlight=False, soft_wrap=True)
    with live.View(console, workers=spec.workers) as view:
        seconds = None if limit_hours is None else limit_hours * 3600
        finished = study(
            plan, out, partial(ENGINES[engine], out, spec), watch=view, limit_seconds=seconds
        )
    _print_end(finished, out, console)
    return finished


def _print_forecast(found: Forecast, spec: Spec, console: Console) -> None:
    grid = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    headings = ("task", "r", "methods", "rates", "tuning", "final", "recipe", "runs", "done", "s")
    for heading in headings:
        grid.add_column(heading, no_wrap=True)
    for line in found.lines:
        seconds = "?" if line.seconds is None else f"{line.seconds:.0f}"
        grid.add_row(escape(line.task), *map(str, line[1:-1]), seconds)
    console.print(grid, highlight=False)
    total, done = (sum(getattr(line, name) for line in found.lines) for name in ("total", "done"))
    lines = [
        f"{total} runs, {done} of them done; tuning, final and recipe are runs of each method: "
        "the budget is equal.",
        f"Optima at an edge of the grid add up to {found.most} runs.",
    ]
    if found.hours is None:
        lines.append("No estimate of time: no run like these is done yet; give `seconds` of a run.")
    else:
        lines.append(f"About {found.hours:.2g} hours by {spec.workers} workers.")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _print_end(finished: Finished, out: Path, console: Console) -> None:
    rows = finished.board.rows()
    console.print(live.table(rows), highlight=False)
    for state in finished.board.summary()["sweeps"]:
        for method, side in state["edges"].items():
            console.print(
                f"{state['task']} r={state['rank']}: the best rate of {method} is at the {side} "
                "end of the grid: the true one may lie beyond",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
    failed = sum(row.failed for row in rows)
    if failed:
        console.print(
            f"{failed} runs failed (error.txt in their folders); the same command tries them again",
            highlight=False,
        )
    if finished.end is End.LIMIT:
        console.print(
            f"time limit: {finished.left} runs are left, as far as is known; the same command goes "
            "on",
            highlight=False,
        )
    console.print(
        f"Tests, intervals and pictures: loram report {out}", highlight=False, markup=False
    )
