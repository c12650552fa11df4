"""A checkpoint on disk or on the hub: its safetensors files, and what their headers say."""

import json
from pathlib import Path
from typing import Any, NamedTuple, cast

from safetensors import SafetensorError, safe_open

__all__ = [
    "CheckpointError",
    "Entry",
    "entries",
    "is_pickle",
    "opened",
    "snapshot",
    "weight_files",
]

_SUFFIX = ".safetensors"
_INDEX = f"model{_SUFFIX}.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}


class CheckpointError(ValueError):
    """A checkpoint can't be read; the message says what was expected, what came, what to do."""


class Entry(NamedTuple):
    """One tensor of a checkpoint, by its header.

    Attributes:
        name: in the state dict.
        shape: as stored.
        dtype: safetensors' name of it.
        file: that holds it.
        begin: where its data is in the file.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path
    begin: int

    @property
    def is_float(self) -> bool:
        """Whether the numbers are the weights themselves, not codes that need scales."""
        return self.dtype in _BITS

    @property
    def bytes(self) -> int:
        """Of a float tensor."""
        size = _BITS[self.dtype] // 8
        for extent in self.shape:
            size *= extent
        return size


def is_pickle(file: Path) -> bool:
    """Whether a file's name says that it is a pickle, which can run code when it is read."""
    return file.suffix in _PICKLES


def weight_files(target: Path) -> list[Path]:
    """The safetensors files of a checkpoint: the file itself, or those of a folder.

    Args:
        target: a `.safetensors` file, or a folder with one, with several, or with an index.

    Raises:
        CheckpointError: none there, a pickle, or a shard that the index names is missing.
    """
    if target.is_file():
        if is_pickle(target):
            raise _refused(target)
        return [target]
    index = target / _INDEX
    if index.is_file():
        return _shards(index)
    files = sorted(target.glob(f"*{_SUFFIX}"))
    if not files:
        pickles = sorted(file for file in target.iterdir() if is_pickle(file))
        if pickles:
            raise _refused(pickles[0])
        raise CheckpointError(
            f"{target}: expected a *{_SUFFIX} file or {_INDEX}, an adapter (adapter_config.json) "
            "or a run of `loram train` (settings.json), found none of them"
        )
    return files


def entries(file: Path) -> list[Entry]:
    """What a safetensors file holds, from its header alone, in the order of its bytes.

    Raises:
        CheckpointError: truncated, or not a safetensors file.
    """
    with opened(file) as held:
        slices = {name: held.get_slice(name) for name in held.offset_keys()}
    begins = _begins(file)
    return [
        Entry(name, tuple(part.get_shape()), part.get_dtype(), file, begins[name])
        for name, part in slices.items()
    ]


def _begins(file: Path) -> dict[str, int]:
    """By safetensors' format: 8 bytes of length, JSON, then the data. The library has checked it,
    and does not tell where the tensors are."""
    with file.open("rb") as held:
        length = int.from_bytes(held.read(8), "little")
        header = json.loads(held.read(length))
    return {
        name: 8 + length + row["data_offsets"][0]
        for name, row in header.items()
        if name != "__metadata__"
    }


def opened(file: Path) -> Any:
    """A safetensors file, to be used in a `with`.

    Raises:
        CheckpointError: truncated, or not a safetensors file.
    """
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file}: not a whole safetensors file ({error}); it was cut short while it was "
            "written or downloaded, or is of another format: get it again"
        ) from error


def snapshot(name: str) -> Path:
    """The folder with a hub model's safetensors and JSON files, downloaded if they are not there.

    Raises:
        CheckpointError: the hub has no such model, or is out of reach.
    """
    if name.count("/") > 1 or name.startswith((".", "/", "~")) or is_pickle(Path(name)):
        raise CheckpointError(f"{name}: no such file or folder")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.safetensors", "*.json"]))
    except (OSError, ValueError, HfHubHTTPError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{name!r} is neither a file or folder here nor a model that the hub gives ({first}): "
            "expected a checkpoint, an adapter, a run of `loram train`, or a hub id"
        ) from error


def _shards(index: Path) -> list[Path]:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        names = sorted(set(cast(dict[str, str], content["weight_map"]).values()))
        files = [index.parent / name for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{index}: expected a JSON object with a weight_map of tensor names to files, and it "
            f"can't be read as one ({type(error).__name__}: {error}): download it again"
        ) from error
    for file in files:
        if file.suffix != _SUFFIX:
            raise _refused(file)
        if not file.is_file():
            raise CheckpointError(
                f"{index} names {file.name}, which is not there: the checkpoint is incomplete; "
                "download it again"
            )
    return files


def _refused(file: Path) -> CheckpointError:
    return CheckpointError(
        f"{file}: pickles are not read, since opening one can run any code: expected *{_SUFFIX}. "
        "Convert it where you trust it: model.save_pretrained(folder, safe_serialization=True)"
    )
