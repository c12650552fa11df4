"""One run of a study, as it is handed to a worker. Light: a worker imports what it needs later."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Job"]


@dataclass(frozen=True, slots=True)
class Job:
    """One run, ready to be handed to a worker.

    Attributes:
        key: content address.
        task: label.
        method: label.
        rank: r.
        lr: learning rate.
        seed: of the run.
        settings: all of `TrainSettings`.
        versions: of what decides a number.
        threads: of the run.
        launch: command that starts it in several processes; None for one.
    """

    key: str
    task: str
    method: str
    rank: int
    lr: float
    seed: int
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    threads: int
    launch: str | None = None

    def __str__(self) -> str:
        return f"{self.task} {self.method} r={self.rank} lr={self.lr:.2e} seed={self.seed}"
