"""Looking on: a live table in a terminal, a line a run anywhere else."""

import time
from types import TracebackType

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from loram.study.board import Board, Row
from loram.study.job import Job
from loram.study.record import Record

__all__ = ["View", "table"]

_EVERY = 1.0  # seconds between pictures: the cores are the runs'
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class View:
    """A `Watch`, and a context manager."""

    def __init__(self, console: Console, *, workers: int) -> None:
        self._console, self._workers = console, workers
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._ran, self._seconds, self._drawn = 0, 0.0, 0.0

    def __enter__(self) -> "View":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def ran(self, job: Job, record: Record) -> None:
        """A line, in a terminal only for a run that failed."""
        if record.wall_seconds is not None:
            self._ran += 1
            self._seconds += record.wall_seconds
        if record.status == "failed":
            self._console.print(
                f"[red]failed[/red] {escape(f'{job}: {record.error}')}", highlight=False
            )
        elif not self._console.is_terminal:
            self._console.print(_line(job, record), highlight=False, markup=False, soft_wrap=True)

    def show(self, board: Board, running: list[Job]) -> None:
        """Draw the table anew, once a second at most."""
        now = time.monotonic()
        if not self._console.is_terminal or now - self._drawn < _EVERY:
            return
        self._drawn = now
        rows = board.rows()
        done, total = sum(row.done for row in rows), sum(row.total for row in rows)
        lines = [f"{done} of {total} runs{self._left(total - done)}", *map(str, running)]
        self._live.update(Group(table(rows), Text("\n".join(lines))), refresh=True)

    def _left(self, runs: int) -> str:
        if not self._ran:
            return ""
        return f", about {_time(runs * self._seconds / self._ran / self._workers)} left"


def table(rows: list[Row]) -> Table:
    """Methods in rows: how far they are and the best rate so far."""
    grid = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("task", "r", "method", "done", "diverged", "failed", "best lr", "validation"):
        grid.add_column(heading, no_wrap=True)
    for row in rows:
        grid.add_row(
            escape(row.task),
            str(row.rank),
            escape(row.method),
            f"{row.done}/{row.total}",
            str(row.diverged or "-"),
            str(row.failed or "-"),
            "-" if row.lr is None else f"{row.lr:.2e}",
            "-" if row.score is None else f"{row.score:.4f}",
        )
    return grid


def _line(job: Job, record: Record) -> str:
    value = record.validation.get(record.metric)
    result = record.status if value is None else f"{record.metric} {value:.4f}"
    seconds = "" if record.wall_seconds is None else f" ({record.wall_seconds:.1f} s)"
    return f"{job}: {result}{seconds}"


def _time(seconds: float) -> str:
    """The two largest units."""
    parts: list[str] = []
    for size, unit in _UNITS:
        count, seconds = divmod(seconds, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count:.0f} {unit}")
    return " ".join(parts[:2])
