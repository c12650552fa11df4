"""Workers on a Ray cluster: the same queue, one actor where this machine would have a process.

The study's folder is to be on a file system that all machines share; where it is not, records come
back all the same, but a run that was killed begins anew.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loram.study.engine import Task
from loram.study.errors import StudyError
from loram.study.worker import Execute, Lost, Reply, work

__all__ = ["RayEngine"]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Worker:
    actor: Any
    placed: Any
    task: Task | None = None
    answer: Any = None


class RayEngine:
    """Actors of `threads` cores each, and of one GPU where the cluster has any."""

    def __init__(self, out: Path, execute: Execute, *, workers: int, threads: int) -> None:
        """Join the cluster of `RAY_ADDRESS`, or make one of this machine.

        Args:
            out: folder of the study.
            execute: runs a job; importable by name.
            workers: actors.
            threads: of each.

        Raises:
            StudyError: Ray is not installed, or the cluster has no room for a single actor.
        """
        try:
            import ray
        except ImportError:
            raise StudyError("--engine ray needs Ray: pip install 'loram[ray]'") from None
        self._ray: Any = ray
        self._began = not ray.is_initialized()
        if self._began:
            own: dict[str, Any] = (
                {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers * threads}
            )
            ray.init(
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
                **own,
            )
        machines: list[dict[str, float]] = [
            each["Resources"] for each in ray.nodes() if each["Alive"]
        ]
        gpus = int(any(each.get("GPU", 0) >= 1 for each in machines))
        # Ray lets an actor that fits nowhere wait for ever, and says nothing.
        room = sum(_room(each, threads, gpus) for each in machines)
        if not room:
            self.close()
            cores = max((each.get("CPU", 0) for each in machines), default=0)
            gpu = " and a GPU" if gpus else ""
            raise StudyError(
                f"expected a machine in the cluster with at least {threads} cores{gpu} for a run, "
                f"got {cores:g} cores at most: give fewer `threads`"
            )
        if room < workers:
            logger.warning("the cluster has room for %d of the %d workers asked for", room, workers)
        self._most = min(workers, room)
        self._workers: list[_Worker] = []
        variables = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self._actor: Any = ray.remote(
            num_cpus=threads, num_gpus=gpus, runtime_env={"env_vars": variables}
        )(_Actor)
        self._with = (str(out.absolute()), os.getcwd(), execute)

    @property
    def free(self) -> int:
        """Actors without a job."""
        return self._most - sum(worker.task is not None for worker in self._workers)

    def submit(self, task: Task) -> None:
        """Hand a job to a free actor."""
        worker = next((each for each in self._workers if each.task is None), None)
        if worker is None:
            actor = self._actor.remote(*self._with)
            worker = _Worker(actor, actor.placed.remote())
            self._workers.append(worker)
        worker.task = task
        worker.answer = worker.actor.work.remote(task)

    def wait(self, timeout: float) -> list[tuple[Task, Reply]]:
        """What came back, after at most `timeout` seconds."""
        busy = {each.answer: each for each in self._workers if each.task is not None}
        ready, _ = self._ray.wait(list(busy), num_returns=1, timeout=timeout)
        if ready:  # and what else there is
            ready, _ = self._ray.wait(list(busy), num_returns=len(busy), timeout=0)
        back: list[tuple[Task, Reply]] = []
        for answer in ready:
            worker = busy[answer]
            task, worker.task = worker.task, None
            assert task is not None
            try:
                back.append((task, self._ray.get(answer)))
            except self._ray.exceptions.RayError as error:
                self._workers.remove(worker)
                self._ray.kill(worker.actor)
                back.append((task, Lost(f"the worker was lost: {str(error).strip()}")))
        return back

    def begun(self, task: Task) -> bool:
        """Whether the job's actor has its place: on a busy cluster it may wait for hours."""
        ready, _ = self._ray.wait([self._at(task).placed], timeout=0)
        return bool(ready)

    def drop(self, task: Task) -> None:
        """Kill the actor that is at a job."""
        worker = self._at(task)
        self._workers.remove(worker)
        self._ray.kill(worker.actor)

    def _at(self, task: Task) -> _Worker:
        return next(each for each in self._workers if each.task is task)

    def close(self) -> None:
        """End all actors, and the cluster if it is ours."""
        for worker in getattr(self, "_workers", ()):
            self._ray.kill(worker.actor)
        if self._began:
            self._ray.shutdown()


def _room(machine: dict[str, float], threads: int, gpus: int) -> int:
    """How many actors a machine of these resources holds."""
    by_cores = int(machine.get("CPU", 0) // threads)
    return min(by_cores, int(machine.get("GPU", 0) // gpus)) if gpus else by_cores


class _Actor:
    """A worker of the cluster."""

    def __init__(self, out: str, where: str, execute: Execute) -> None:
        # Data and models may be named relative to where the study was started.
        if os.path.isdir(where):
            os.chdir(where)
        self._out, self._execute = Path(out), execute

    def placed(self) -> bool:
        return True

    def work(self, task: Task) -> Reply:
        return work(task.job, self._out, self._execute, clean=task.clean)
