"""Workers on this machine: processes that live as long as the study, and are replaced if killed."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from loram.study.engine import Task
from loram.study.worker import Execute, Lost, Reply, work

__all__ = ["LocalEngine"]

logger = logging.getLogger(__name__)

# Read by the libraries when they are loaded, before a worker could say anything.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_PATIENCE = 1.0  # seconds until a worker that was asked to end is killed
_DYING = 10.0  # seconds until one that was killed is given up


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    pipe: Any
    task: Task | None = None


class LocalEngine:
    """Spawned processes; imports are paid once by each."""

    def __init__(self, out: Path, execute: Execute, *, workers: int, threads: int) -> None:
        """Make an engine; a worker starts with its first job.

        Args:
            out: folder of the study.
            execute: runs a job; importable by name.
            workers: processes.
            threads: of each.
        """
        self._out, self._execute = out, execute
        self._most, self._threads = workers, threads
        self._workers: list[_Worker] = []
        self._spawn = multiprocessing.get_context("spawn")

    @property
    def free(self) -> int:
        """Workers without a job."""
        return self._most - sum(worker.task is not None for worker in self._workers)

    def submit(self, task: Task) -> None:
        """Hand a job to a free worker."""
        for worker in [each for each in self._workers if each.task is None]:
            if not worker.process.is_alive():  # killed while it had nothing to do
                self._workers.remove(worker)
                _end(worker)
        worker = next((each for each in self._workers if each.task is None), None) or self._start()
        worker.task = task
        with suppress(OSError):  # it died just now: wait() tells
            worker.pipe.send(task)

    def wait(self, timeout: float) -> list[tuple[Task, Reply]]:
        """What came back, after at most `timeout` seconds."""
        busy = {worker.pipe: worker for worker in self._workers if worker.task is not None}
        back: list[tuple[Task, Reply]] = []
        for pipe in wait(list(busy), timeout):
            worker = busy[pipe]
            task, worker.task = worker.task, None
            assert task is not None
            try:
                back.append((task, worker.pipe.recv()))
            except (EOFError, OSError):
                self._workers.remove(worker)
                _end(worker)
                back.append((task, Lost(_death(worker.process.exitcode))))
        return back

    def begun(self, task: Task) -> bool:
        """Processes need not wait for a place."""
        return True

    def drop(self, task: Task) -> None:
        """Kill the worker that is at a job."""
        worker = next(each for each in self._workers if each.task is task)
        self._workers.remove(worker)
        worker.process.kill()  # one that hangs would not hear anything milder
        _end(worker)

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            _end(worker)
        self._workers.clear()

    def _start(self) -> _Worker:
        ours, theirs = self._spawn.Pipe()
        process = self._spawn.Process(
            target=_main,
            args=(theirs, self._out, self._execute),
            name="loram-worker",
        )
        with _environment(self._threads):
            process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker


def _main(pipe: Connection, out: Path, execute: Execute) -> None:
    """A worker: jobs in, replies out, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the study's to answer
    threading.Thread(target=_die_with_parent, daemon=True).start()
    while True:
        try:
            task: Task = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(work(task.job, out, execute, clean=task.clean))


def _die_with_parent() -> None:
    """A study that was killed must not go on in its workers: they would hold its locks."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _end(worker: _Worker) -> None:
    worker.pipe.close()
    worker.process.join(_PATIENCE)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join(_DYING)
        if worker.process.is_alive():
            logger.warning(
                "process %d does not end though it was killed: it waits for a disk or a device, "
                "and keeps its run until then",
                worker.process.pid,
            )


def _death(code: int | None) -> str:
    """Why a worker ended, in words."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = ": out of memory, or killed by hand" if -code == signal.SIGKILL else ""
        return f"the worker was ended by {name}{hint}"
    return f"the worker ended with code {code}"


@contextmanager
def _environment(threads: int) -> Generator[None]:
    """What a worker reads when it starts."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
