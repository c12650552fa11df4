"""What runs jobs: workers of this machine, or of a cluster."""

from typing import Literal, NamedTuple, Protocol

from loram.study.job import Job
from loram.study.worker import Reply

__all__ = ["Engine", "EngineName", "Task"]

EngineName = Literal["local", "ray"]


class Task(NamedTuple):
    """A job, and whether to begin it from nothing."""

    job: Job
    clean: bool = False


class Engine(Protocol):
    """A few workers; each does one job at a time."""

    @property
    def free(self) -> int:
        """Workers without a job."""
        ...

    def submit(self, task: Task) -> None:
        """Hand a job to a free worker."""
        ...

    def begun(self, task: Task) -> bool:
        """Whether a job's worker is there, or it still waits for a place."""
        ...

    def wait(self, timeout: float) -> list[tuple[Task, Reply]]:
        """What came back, after at most `timeout` seconds; a dead worker's job comes as `Lost`."""
        ...

    def drop(self, task: Task) -> None:
        """End the worker that is at a job, at once; nothing comes back of it."""
        ...

    def close(self) -> None:
        """End all workers at once, whatever they do: a run that is cut off goes on next time."""
        ...
