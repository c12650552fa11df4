"""The folder of a run: its settings, its checkpoint, its parts, all written whole or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from loram.files import claim_folder, read_object, staged_file
from loram.recommend.errors import RecommendError

__all__ = [
    "Checkpoint",
    "drop_checkpoint",
    "open_run",
    "read_checkpoint",
    "read_json",
    "read_parts",
    "write_checkpoint",
    "write_parts",
]

_CHECKPOINT = "checkpoint.safetensors"
_PARTS = "parts.safetensors"


class Checkpoint(NamedTuple):
    """Where training stands.

    Attributes:
        state: what is not tensors.
        tensors: parameters, optimiser state, random state.
    """

    state: dict[str, Any]
    tensors: dict[str, Tensor]


def open_run(settings: dict[str, Any], out: Path) -> dict[str, Any] | None:
    """Results if the run is done; else its folder is ready to start or go on.

    Raises:
        RecommendError: the folder belongs to something else.
    """
    try:
        claim_folder(out, settings)
    except ValueError as error:
        raise RecommendError(str(error)) from error
    results = out / "results.json"
    return read_json(results) if results.exists() else None


def read_json(file: Path) -> dict[str, Any]:
    """The object in a file of a run.

    Raises:
        RecommendError: there is none.
    """
    try:
        return read_object(file)
    except ValueError as error:
        raise RecommendError(str(error)) from error


def write_checkpoint(out: Path, checkpoint: Checkpoint) -> None:
    """In the place of the one before."""
    _save(out / _CHECKPOINT, checkpoint.tensors, {"state": json.dumps(checkpoint.state)})


def read_checkpoint(out: Path) -> Checkpoint | None:
    """Where the run stands; None if it has none.

    Raises:
        RecommendError: the file is damaged.
    """
    file = out / _CHECKPOINT
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            state = json.loads(opened.metadata()["state"])
            return Checkpoint(state, {name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise RecommendError(f"{file} is damaged ({error}): remove it to begin again") from error


def drop_checkpoint(out: Path) -> None:
    """Once the run is done."""
    (out / _CHECKPOINT).unlink(missing_ok=True)


def write_parts(out: Path, parts: Mapping[str, Tensor]) -> None:
    """Projectors, router and trained vectors, by the names they have in the recommender."""
    # A file without tensors can only be read if it says something else.
    _save(out / _PARTS, parts, {"format": "pt"})


def read_parts(out: Path) -> dict[str, Tensor]:
    """What `write_parts` wrote.

    Raises:
        RecommendError: it is not there, or damaged.
    """
    try:
        return load_file(out / _PARTS)
    except (OSError, SafetensorError) as error:
        raise RecommendError(
            f"{out}: expected a finished run with {_PARTS} ({error}); `loram recommend train` "
            "makes one"
        ) from error


def _save(file: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with staged_file(file) as staging:
        save_file(whole, staging, metadata=metadata)
