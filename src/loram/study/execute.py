"""One run of a study: `loram.train.run`, and its results as a `Record`."""

import json
import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loram.study.errors import StudyError
from loram.study.job import Job
from loram.study.launched import launch
from loram.study.memory import peak, reset_peak
from loram.study.record import Judged, Record, Status
from loram.study.versions import deciding

__all__ = ["execute", "prepare_process", "record", "tidy"]

_SCRATCH = ("checkpoints", "start")


def execute(job: Job, folder: Path) -> Record:
    """Run, or go on with, the job in its folder.

    Raises:
        StudyError: this worker's libraries or device are not those of the run's key.
        Exception: whatever the run raises, divergence apart, which is a result.
    """
    from loram.train.folder import has_ended
    from loram.train.run import DivergedError, run
    from loram.train.settings import TrainSettings

    _same_machine(job)
    prepare_process(job.threads)
    reset_peak()
    began = time.perf_counter()
    known = has_ended(folder)  # its record was lost: a clock would time the reading
    try:
        if job.launch is not None:
            launch(job.launch, job, folder)  # what it left is read below
        # A record says nothing of the base model, which is the same for all runs of a task.
        results = run(TrainSettings.model_validate(job.settings), folder, before=False)
    except DivergedError as error:
        seconds = None if known else time.perf_counter() - began
        return record(job, "diverged", error=str(error), wall_seconds=seconds)
    return _done(job, folder, results, None if known else time.perf_counter() - began)


def _same_machine(job: Job) -> None:
    """A record under the key of other libraries or another device would be taken for theirs."""
    here = deciding()
    other = [name for name, value in here.items() if job.versions.get(name) != value]
    if other:
        wanted, found = (
            ", ".join(f"{name} {each.get(name)}" for name in other) for each in (job.versions, here)
        )
        raise StudyError(
            f"expected a worker with {wanted}, as where the study was started, got {found}: start "
            "the study on a machine like its workers"
        )


def prepare_process(threads: int) -> None:
    """Fix the threads; no bars of Transformers, no warnings that nobody can act on."""
    import warnings

    import torch
    from transformers.utils import logging as transformers_logging

    torch.set_num_threads(threads)
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)


def record(job: Job, status: Status, **values: Any) -> Record:
    """A record with what the job itself says."""
    from loram.tasks.table import TASKS

    task = TASKS[job.settings["task"]]
    given: dict[str, Any] = {
        "metric": task.metric,
        "better": task.better,
        "versions": dict(job.versions),
    }
    return Record(
        key=job.key,
        model=job.settings["model"],
        task=job.settings["task"],
        method=job.settings["method"],
        rank=job.rank,
        lr=job.lr,
        seed=job.seed,
        status=status,
        settings=dict(job.settings),
        **{**given, **values},
    )


def _done(job: Job, folder: Path, results: Mapping[str, Any], seconds: float | None) -> Record:
    """The record of results; `seconds` is None if the run was not done by this process."""
    metrics = results["metrics"]
    here = job.launch is None and seconds is not None
    measured: dict[str, Any] = {
        "metric": results["metric"],
        "better": results["better"],
        "losses": tuple(row["loss"] for row in _lines(folder / "losses.jsonl")),
        "curve": tuple(Judged(**row) for row in _lines(folder / "curve.jsonl")),
        "update": results["update"],
        "init_seconds": results["init_seconds"],
        "train_seconds": results["train_seconds"],
        "wall_seconds": seconds,
        "calibration_tokens": (results["calibration"] or {}).get("tokens"),
        # A worker that does many runs would give each the peak of all before.
        "peak_memory_bytes": (peak() if here else None) or results["peak_memory_bytes"],
        "trainable": results["trainable"],
        "versions": {**job.versions, **results["versions"]},
    }
    validation, test = metrics["validation"] or {}, metrics["test"] or {}
    broken = [name for each in (validation, test) for name in each if not math.isfinite(each[name])]
    if broken:
        reason = f"not finite after training: {', '.join(sorted(set(broken)))}"
        return record(job, "diverged", error=reason, wall_seconds=seconds)
    return record(job, "done", validation=validation, test=test, **measured)


def _lines(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def tidy(folder: Path) -> None:
    """Drop what is of use only while a run goes on: of one that diverged it is still there."""
    for name in _SCRATCH:
        shutil.rmtree(folder / name, ignore_errors=True)
