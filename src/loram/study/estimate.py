"""What a study is going to do and how long it may take, before it does it."""

from collections.abc import Iterable, Mapping
from statistics import median
from typing import NamedTuple

from loram.study.board import Board
from loram.study.plan import Block, Plan
from loram.study.record import Record

__all__ = ["Forecast", "Line", "forecast", "seconds_of"]


class Line(NamedTuple):
    """A task at a rank.

    Attributes:
        task: label.
        rank: r.
        methods: how many.
        rates: of the grid.
        tuning: runs to choose the rate by, for each method alike.
        final: more runs of each method, at its best rate.
        recipe: runs of each method at fixed rates.
        total: of all methods, each run once.
        done: of these.
        seconds: of a run; None if nothing is known.
    """

    task: str
    rank: int
    methods: int
    rates: int
    tuning: int
    final: int
    recipe: int
    total: int
    done: int
    seconds: float | None


class Forecast(NamedTuple):
    """Of a whole study.

    Attributes:
        lines: one for each task and rank.
        hours: that are left, by all workers together; None if a run's time is not known.
        most: runs that extensions may add.
    """

    lines: tuple[Line, ...]
    hours: float | None
    most: int


def forecast(plan: Plan, records: Iterable[Record]) -> Forecast:
    """The plan in numbers.

    Args:
        plan: of the study.
        records: of runs that are done, of any study on these machines.
    """
    known = [record for record in records if record.status != "failed"]
    board = Board(plan)
    board.records = {record.key: record for record in known}
    lines = tuple(_line(plan, board, block, known) for block in plan.blocks)
    left = [
        None if line.seconds is None else max(line.total - line.done, 0) * line.seconds
        for line in lines
    ]
    times = [seconds for seconds in left if seconds is not None]
    hours = sum(times) / plan.spec.workers / 3600 if len(times) == len(lines) else None
    sweep, methods = plan.sweep, len(plan.spec.methods)
    added = 0 if sweep is None else 2 * sweep.extend * methods * len(sweep.tuning_seeds)
    return Forecast(lines, hours, added * len(lines))


def _line(plan: Plan, board: Board, block: Block, known: list[Record]) -> Line:
    spec, sweep = plan.spec, plan.sweep
    board.refresh(block)
    jobs = board.jobs(block)
    rates = 0 if sweep is None else len(sweep.points)
    tuning = rates * len(spec.tuning_seeds)
    final = 0 if sweep is None else len(set(spec.seeds) - set(spec.tuning_seeds))
    recipe = 0 if spec.recipe is None else len(spec.recipe.lrs) * len(spec.seeds)
    # The best rates are not known yet, but how many runs they take is.
    unknown = 0 if sweep is None or board.states[block].best else final * len(spec.methods)
    first = next(iter(jobs))
    return Line(
        block.task,
        block.rank,
        len(spec.methods),
        rates,
        tuning,
        final,
        recipe,
        total=len(jobs) + unknown,
        done=sum(job.key in board.records for job in jobs),
        seconds=seconds_of(first.settings, known) or spec.seconds,
    )


def seconds_of(settings: Mapping[str, object], known: Iterable[Record]) -> float | None:
    """Median wall time of runs on the same model and task, and of as many steps."""
    alike = ("model", "task", "data", "steps", "batch_size", "max_length")
    times = [
        record.wall_seconds
        for record in known
        if record.wall_seconds is not None
        and all(record.settings.get(name) == settings.get(name) for name in alike)
    ]
    return median(times) if times else None
