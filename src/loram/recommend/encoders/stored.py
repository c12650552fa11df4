"""An encoder's folder: what it is in JSON, its numbers in safetensors."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from loram.files import staged_folder
from loram.recommend.errors import RecommendError

__all__ = ["restore", "store"]


def store(folder: Path, kind: str, about: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Write `encoder.json` and `encoder.safetensors`, both or neither.

    Raises:
        RecommendError: something is there already.
    """
    if folder.exists():
        raise RecommendError(f"{folder}: expected a folder that is not there yet")
    with staged_folder(folder) as staging:
        text = json.dumps({"format": f"loram-{kind}/1", **about})
        (staging / "encoder.json").write_text(text, encoding="utf-8")
        contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
        save_file(contiguous, staging / "encoder.safetensors")


def restore(folder: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `store` wrote.

    Raises:
        RecommendError: a file is missing, damaged, or of another kind.
    """
    try:
        about: dict[str, Any] = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "encoder.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise RecommendError(
            f"{folder}: expected encoder.json and encoder.safetensors, both whole ({error})"
        ) from error
    if about.get("format") != f"loram-{kind}/1":
        raise RecommendError(f"{folder}: expected a loram-{kind}/1, got {about.get('format')!r}")
    return about, weights
