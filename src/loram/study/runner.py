"""The loop of a study: what is needed goes to free workers, what comes back decides what is next.

What to do next depends on the records alone, so that a study that was stopped, at any moment and in
any way, goes on by the same call.
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Protocol

from loram.study.board import Board
from loram.study.disk import is_full
from loram.study.engine import Engine, Task
from loram.study.errors import DiskFullError, StudyError
from loram.study.execute import record as blank
from loram.study.job import Job
from loram.study.plan import Block, Plan
from loram.study.record import Record
from loram.study.spec import dump
from loram.study.store import Store
from loram.study.worker import Busy, Done, Failed, Full, Lost, Reply

__all__ = ["End", "Finished", "Watch", "study"]

_TICK = 0.5  # seconds between looks at the clock and at runs that another process does


class End(Enum):
    """Why a study stopped."""

    DONE = "done"
    LIMIT = "time limit"


class Finished(NamedTuple):
    """Where a study stands when it stops."""

    end: End
    board: Board
    left: int


class Watch(Protocol):
    """Looks on."""

    def ran(self, job: Job, record: Record) -> None:
        """A run came to its end."""
        ...

    def show(self, board: Board, running: list[Job]) -> None:
        """Called now and then."""
        ...


def study(
    plan: Plan,
    out: Path,
    engine: Callable[[], Engine],
    *,
    watch: Watch,
    limit_seconds: float | None = None,
) -> Finished:
    """Do the runs of a study that are not done.

    Args:
        plan: checked.
        out: the study's folder, which several studies and processes may share.
        engine: makes the workers; closed at the end, whatever happens.
        watch: looks on.
        limit_seconds: start no run after this time.

    Raises:
        StudyError: the folder can't be made.
        DiskFullError: no room; runs that are done are kept.
    """
    store = Store(out)
    loop = _Loop(plan, store, watch)
    until = None if limit_seconds is None else time.monotonic() + limit_seconds
    workers = engine()
    try:
        loop.note()
        return loop.run(workers, until)
    except OSError as error:
        if is_full(error, out):
            raise DiskFullError(_full(str(error), out)) from error
        raise StudyError(f"can't write to {out} ({error})") from error
    finally:
        workers.close()
        loop.note(quietly=True)


class _Attempt(NamedTuple):
    """A job that a worker is at, and since when (monotonic seconds)."""

    task: Task
    since: float


class _Waiting(NamedTuple):
    """A job that another process is at, and the error by which it was given up here."""

    job: Job
    error: str | None = None


class _Loop:
    def __init__(self, plan: Plan, store: Store, watch: Watch) -> None:
        self.board, self._store, self._watch = Board(plan), store, watch
        self._retries, self._hours = plan.spec.retries, plan.spec.run_hours
        self._text = dump(plan.spec)
        self._queue: deque[Task] = deque()
        self._asked: set[str] = set()
        self._running: dict[str, _Attempt] = {}
        self._elsewhere: dict[str, _Waiting] = {}
        self._attempts: Counter[str] = Counter()
        for block in plan.blocks:
            self._refresh(block)

    def run(self, workers: Engine, until: float | None) -> Finished:
        while self._queue or self._running or self._elsewhere:
            late = until is not None and time.monotonic() >= until
            if late and not self._running:
                return Finished(End.LIMIT, self.board, sum(1 for _ in self.board.needs()))
            while self._queue and workers.free and not late:
                task = self._queue.popleft()
                self._running[task.job.key] = _Attempt(task, time.monotonic())
                workers.submit(task)
            self._watch.show(self.board, [each.task.job for each in self._running.values()])
            if self._running:
                for task, reply in workers.wait(_TICK):
                    del self._running[task.job.key]
                    self._take(task, reply)
                self._end_overdue(workers)
            else:
                time.sleep(_TICK)
            self._look_elsewhere()
        self._watch.show(self.board, [])
        return Finished(End.DONE, self.board, 0)

    def note(self, *, quietly: bool = False) -> None:
        """Write `plan.json`; quietly where the study ends anyhow and its records tell it all."""
        try:
            self._store.write_plan(self._text, self.board.summary())
        except OSError:
            if not quietly:
                raise

    def _end_overdue(self, workers: Engine) -> None:
        """A run that hangs would stall the study."""
        if self._hours is None:
            return
        now = time.monotonic()
        for key, (task, since) in list(self._running.items()):
            if not workers.begun(task):
                self._running[key] = _Attempt(task, now)
            elif since < now - self._hours * 3600:
                del self._running[key]
                workers.drop(task)
                self._take(task, Lost(f"not done after the {self._hours:g} hours of `run_hours`"))

    def _take(self, task: Task, reply: Reply) -> None:
        job = task.job
        match reply:
            case Done(record):
                if self._store.result(job.key) is None:  # made on a machine without this folder
                    self._store.write(record)
                self._settle(job, record)
            case Busy():
                self._elsewhere[job.key] = _Waiting(job)
            case Full(error):
                raise DiskFullError(_full(error, self._store.out))
            case Failed(error) | Lost(error):
                self._attempts[job.key] += 1
                if self._attempts[job.key] <= self._retries:
                    # What an error left may be its cause; what a kill left is good to go on from.
                    self._queue.append(Task(job, clean=isinstance(reply, Failed)))
                else:
                    self._give_up(job, error)

    def _give_up(self, job: Job, error: str) -> None:
        """Record a failure, unless another process is at the run: what comes of that counts."""
        with self._store.lock(job.key) as ours:
            if not ours:
                self._elsewhere[job.key] = _Waiting(job, error)
                return
            record = self._store.result(job.key)  # it may have come to its end all the same
            if record is None:
                record = blank(job, "failed", error=error)
                self._store.write(record)
        self._settle(job, record)

    def _settle(self, job: Job, record: Record) -> None:
        self._watch.ran(job, record)
        stages = {block: self._stage(block) for block in self.board.plan.blocks}
        for block in self.board.add(record):
            self._refresh(block)
        if any(self._stage(block) != stage for block, stage in stages.items()):
            self.note()

    def _stage(self, block: Block) -> tuple[str, range] | None:
        state = self.board.states.get(block)
        return None if state is None else (state.stage, state.points)

    def _refresh(self, block: Block) -> None:
        """Queue what a block needs and nobody did, of this or of another study."""
        while True:
            known = False
            for job in self.board.refresh(block):
                if job.key in self._asked:
                    continue
                self._asked.add(job.key)
                found = self._store.result(job.key)
                if found is not None:
                    self.board.add(found)
                    known = True
                else:
                    self._queue.append(Task(job))
            if not known:
                return

    def _look_elsewhere(self) -> None:
        """Runs that another process does: take its record, or the run if it let go of it.

        A failure that it recorded counts as well: two processes of a study are to see the same.
        """
        for key, (job, error) in list(self._elsewhere.items()):
            with self._store.lock(key) as free:
                if not free:
                    continue
                del self._elsewhere[key]
                found = self._store.find(key)
            if found is not None:
                self._settle(job, found)
            elif error is not None:
                self._give_up(job, error)
            else:
                self._queue.append(Task(job))


def _full(error: str, out: Path) -> str:
    return (
        f"no room for {out} ({error}). The runs that are done are kept: make room and give the "
        "same command again"
    )
