"""What the study tests share: runs that take no time, workers that are no processes."""

import errno
import json
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loram.study.engine import Task
from loram.study.execute import record
from loram.study.job import Job
from loram.study.plan import Plan
from loram.study.record import Record
from loram.study.spec import Spec
from loram.study.worker import Reply, work

VERSIONS = {"loram": "0", "torch": "0"}


def spec(**changes: Any) -> Spec:
    """Two methods, three rates, two seeds."""
    values: dict[str, Any] = {
        "name": "test",
        "base": {"model": "none", "data": "wordmath", "validation_size": 4, "dtype": "float32"},
        "tasks": ["answers"],
        "methods": ["lora", "loram"],
        "ranks": [4],
        "lrs": {"low": 1e-4, "high": 1e-2, "per_decade": 1},
        "seeds": [0, 1],
        "tuning_seeds": [0],
        "extend": 1,
    }
    return Spec.model_validate(values | changes)


def plan(**changes: Any) -> Plan:
    return Plan(spec(**changes), VERSIONS)


def score(job: Job) -> float:
    """A loss: a parabola in the exponent of the rate; best at 1e-3 of LoRA, at 1e-2 of LoRAM."""
    best = {"lora": -3.0}.get(job.method, -2.0)
    return (math.log10(job.lr) - best) ** 2 + 0.01 * job.seed


def execute(job: Job, folder: Path) -> Record:
    """A run of no time, which leaves a trace."""
    with open(folder / "executed", "a") as file:
        file.write(f"{os.getpid()}\n")
    loss = {"loss": score(job)}
    return record(job, "done", validation=loss, test=loss, wall_seconds=0.01)


def execute_slowly(job: Job, folder: Path) -> Record:
    time.sleep(0.3)
    return execute(job, folder)


def execute_and_die_once(job: Job, folder: Path) -> Record:
    """Die by the signal of a machine without memory, at the first attempt of LoRAM's seed 1."""
    trace = folder / "died"
    if job.method == "loram" and job.seed == 1 and not trace.exists():
        trace.touch()
        # What makes this a run that was begun with these settings, for the next attempt.
        (folder / "settings.json").write_text(json.dumps(dict(job.settings)))
        os.kill(os.getpid(), 9)
    return execute(job, folder)


def full_disk(job: Job, folder: Path) -> Record:
    raise OSError(errno.ENOSPC, "No space left on device")


def hang(job: Job, folder: Path) -> Record:
    """Runs of LoRAM never end."""
    if job.method == "loram":
        (folder / "hung").write_text(str(os.getpid()))
        threading.Event().wait()
    return execute(job, folder)


class Inline:
    """An engine of this very process: a job is done when it is waited for."""

    def __init__(self, out: Path, run: Callable[[Job, Path], Record] = execute) -> None:
        self._out, self._run = out, run
        self._task: Task | None = None
        self.closed = False
        self.submitted: list[Job] = []

    @property
    def free(self) -> int:
        return int(self._task is None)

    def submit(self, task: Task) -> None:
        self._task = task
        self.submitted.append(task.job)

    def wait(self, timeout: float) -> list[tuple[Task, Reply]]:
        task, self._task = self._task, None
        assert task is not None
        return [(task, work(task.job, self._out, self._run, clean=task.clean))]

    def begun(self, task: Task) -> bool:
        return True

    def drop(self, task: Task) -> None:
        raise AssertionError("nothing is at work between two calls")

    def close(self) -> None:
        self.closed = True


class Unwatched:
    """A `Watch` that keeps what it sees."""

    def __init__(self) -> None:
        self.seen: list[tuple[Job, Record]] = []

    def ran(self, job: Job, record: Record) -> None:
        self.seen.append((job, record))

    def show(self, board: Any, running: Any) -> None:
        pass


_TIMES = ("init_seconds", "train_seconds", "wall_seconds", "peak_memory_bytes")


def numbers(records: list[Record]) -> dict[str, dict[str, Any]]:
    """Records by key without what a clock says."""
    found: dict[str, dict[str, Any]] = {}
    for each in records:
        values = each.model_dump(exclude=set(_TIMES))
        values["curve"] = [(step, metrics) for step, _, metrics in each.curve]
        found[each.key] = values
    return found


def die_at_low_rates(job: Job, folder: Path) -> Record:
    if job.lr < 5e-4:
        os.kill(os.getpid(), 9)
    return execute(job, folder)
