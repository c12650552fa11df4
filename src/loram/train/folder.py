"""The folder of a run: opened once, read and written whole."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from transformers.trainer_utils import get_last_checkpoint

from loram.files import claim_folder, read_object, write_json
from loram.train.errors import DivergedError, RunError
from loram.train.settings import TrainSettings

__all__ = [
    "WHOLE",
    "checkpoint",
    "has_ended",
    "mark_diverged",
    "once",
    "open_folder",
    "read_json",
    "take_over",
]

logger = logging.getLogger(__name__)

WHOLE = "whole"
"""A checkpoint holds this file once everything in it is written: seconds of its steps."""

_RESULTS = "results.json"
_DIVERGED = "diverged.json"

# What the figures before training depend on.
_JUDGED_BY = (
    "task",
    "model",
    "data",
    "data_config",
    "data_seed",
    "dtype",
    "prompt",
    "max_length",
    "train_size",
    "held_out_size",
    "answers",
    "max_new_tokens",
    "samples",
    "temperature",
    "program_seconds",
)


def open_folder(settings: BaseModel, out: Path) -> dict[str, Any] | None:
    """Results if the run is done; else its folder is ready to start or go on.

    Raises:
        DivergedError: the run was here before, and diverged.
        RunError: the folder belongs to other settings, or can't be used.
    """
    try:
        claim_folder(out, settings.model_dump())
    except ValueError as error:
        raise RunError(str(error)) from error
    diverged = out / _DIVERGED
    if diverged.exists():
        marked = read_json(diverged)
        raise DivergedError(str(marked.get("message")), int(marked.get("step", 0)))
    results = out / _RESULTS
    return read_json(results) if results.exists() else None


def has_ended(out: Path) -> bool:
    """Whether a run came to its end in this folder, with results or by divergence."""
    return any((out / name).exists() for name in (_RESULTS, _DIVERGED))


def mark_diverged(out: Path, error: DivergedError) -> None:
    """Leave word that the run diverged: repeated, it is not trained again.

    Any process of the run may call this, and several at once.
    """
    mine = out / f".{os.getpid()}.{_DIVERGED}"
    write_json(mine, {"step": error.step, "message": str(error)})
    os.replace(mine, out / _DIVERGED)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)


def take_over(settings: TrainSettings, baseline: Path, out: Path) -> None:
    """Copy `before.json` of another run, if it was judged just as this one is going to be."""
    try:
        theirs = read_json(baseline / "settings.json")
        before = read_json(baseline / "before.json")
    except RunError as error:
        raise RunError(f"baseline {baseline} is not a run that was begun: {error}") from error
    mine = settings.model_dump()
    other = [name for name in _JUDGED_BY if theirs.get(name) != mine[name]]
    if other:
        raise RunError(
            f"baseline {baseline} was judged otherwise ({', '.join(other)} differ): expected the "
            "same model and data"
        )
    write_json(out / "before.json", before)


def checkpoint(out: Path) -> str | None:
    """The newest checkpoint that was written whole; what a kill left half written is dropped."""
    folder = out / "checkpoints"
    if not folder.is_dir():
        return None
    while (last := get_last_checkpoint(str(folder))) is not None:
        if (Path(last) / WHOLE).exists():
            return last
        logger.warning("%s was cut short and is dropped", last)
        shutil.rmtree(last)
    return None


def once(file: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the file holds, or what is computed and put there."""
    if file.exists():
        return read_json(file)
    value = compute()
    write_json(file, value)
    return value


def read_json(file: Path) -> dict[str, Any]:
    """The object in a file of a run.

    Raises:
        RunError: there is none.
    """
    try:
        return read_object(file)
    except ValueError as error:
        raise RunError(str(error)) from error
