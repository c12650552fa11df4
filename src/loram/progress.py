"""Progress bars for a terminal; plain lines where there is none."""

from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["Bars"]


class Bars:
    """One bar for the stage a run is in; a stage without parts has a spinner.

    Use as a context manager, and as `stage` of `loram.train.run`.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=False,
            disable=not console.is_terminal,
        )
        self._task = None

    def __enter__(self) -> "Bars":
        self._progress.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        self._progress.__exit__(kind, error, trace)

    def __call__(self, what: str, total: int | None) -> Callable[[int], None]:
        """Close the stage before, open this one, and return what to tell of each part done."""
        self._close()
        if not self._console.is_terminal:
            parts = "" if total is None else f" ({total})"
            self._console.print(f"{what}{parts}", highlight=False)
            return lambda n: None
        task = self._task = self._progress.add_task(what, total=total)
        return lambda n: self._progress.advance(task, n)

    def _close(self) -> None:
        if self._task is not None:
            total = self._progress.tasks[self._task].total
            self._progress.update(self._task, total=total or 1, completed=total or 1)
            self._progress.stop_task(self._task)
            self._task = None
