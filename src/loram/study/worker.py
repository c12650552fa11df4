"""What every worker does with a job, whichever engine it belongs to."""

import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from loram.study.disk import is_full
from loram.study.job import Job
from loram.study.memory import leave_out_imports
from loram.study.record import Record
from loram.study.store import Store

__all__ = ["Busy", "Done", "Execute", "Failed", "Full", "Lost", "Reply", "work"]

Execute = Callable[[Job, Path], Record]


class Done(NamedTuple):
    """The run has a record; `fresh` if it was made now."""

    record: Record
    fresh: bool


class Busy(NamedTuple):
    """Another process works on it."""


class Failed(NamedTuple):
    """An error that is not divergence."""

    error: str


class Full(NamedTuple):
    """No room on the disk."""

    error: str


class Lost(NamedTuple):
    """The worker died at it."""

    error: str


Reply = Done | Busy | Failed | Full | Lost


def work(job: Job, out: Path, execute: Execute, *, clean: bool = False) -> Reply:
    """Do a job, unless it is done or another process is at it.

    Args:
        job: the run.
        out: folder of the study.
        execute: runs it.
        clean: begin from nothing, not from what an earlier attempt left.
    """
    from loram.study.execute import tidy

    try:
        store = Store(out)
        with store.lock(job.key) as ours:
            if not ours:
                return Busy()
            found = store.result(job.key)
            if found is not None:
                return Done(found, fresh=False)
            folder = store.prepare(job.key, job.settings, clean=clean)
            try:
                record = execute(job, folder)
                store.write(record)
            except Exception as error:
                if not is_full(error, out):
                    _note(folder, error)  # while the folder is ours
                raise
            tidy(folder)
            return Done(record, fresh=True)
    except Exception as error:  # whatever it is, it must not stop the other runs
        message = f"{type(error).__name__}: {error}"
        if is_full(error, out):
            return Full(message)
        return Failed(message)
    finally:
        leave_out_imports()


def _note(folder: Path, error: Exception) -> None:
    """Where it happened, for whoever looks into the run's folder."""
    with suppress(OSError):
        (folder / "error.txt").write_text("".join(traceback.format_exception(error)))
