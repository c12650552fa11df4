"""Tensors of a checkpoint, one at a time, without building the model.

safetensors maps a file into memory, and what was read stays resident while the file is open. So the
file is opened again once as much was read as its largest tensor holds: a checkpoint of any size
costs the memory of one tensor.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from safetensors import SafetensorError, safe_open
from torch import Tensor

from loram.diagnose.errors import DiagnoseError

__all__ = ["Entry", "entries", "is_pickle", "read", "weight_files"]

_SUFFIX = ".safetensors"
_INDEX = f"model{_SUFFIX}.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_FLOOR = 16 << 20  # bytes; opening a file again for less is a waste
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16}


class Entry(NamedTuple):
    """One tensor of a checkpoint, by its header.

    Attributes:
        name: in the state dict.
        shape: as stored.
        dtype: safetensors' name of it.
        file: that holds it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path

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
        DiagnoseError: none there, a pickle, or a shard that the index names is missing.
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
        raise DiagnoseError(
            f"{target}: expected a *{_SUFFIX} file or {_INDEX}, an adapter (adapter_config.json) "
            "or a run of `loram train` (settings.json), found none of them"
        )
    return files


def entries(file: Path) -> list[Entry]:
    """What a safetensors file holds, from its header alone, in the order of its bytes.

    Raises:
        DiagnoseError: truncated, or not a safetensors file.
    """
    with _opened(file) as held:
        slices = {name: held.get_slice(name) for name in held.offset_keys()}
        return [
            Entry(name, tuple(part.get_shape()), part.get_dtype(), file)
            for name, part in slices.items()
        ]


def read(wanted: list[Entry], use: Callable[[Entry, Tensor], None]) -> None:
    """Hand every tensor to `use`, which must not keep it; a tensor's worth of memory at a time.

    Args:
        wanted: float tensors, those of a file together.
        use: gets the entry and its tensor, on the CPU, in its own dtype.

    Raises:
        DiagnoseError: a file was damaged in the meantime.
    """
    for group in _groups(wanted):
        with _opened(group[0].file) as held:
            for entry in group:
                use(entry, held.get_tensor(entry.name))


def _groups(wanted: list[Entry]) -> Iterator[list[Entry]]:
    """Neighbours in one file that together are not larger than the largest tensor."""
    budget = max([_FLOOR, *(entry.bytes for entry in wanted)])
    group: list[Entry] = []
    held = 0
    for entry in wanted:
        if group and (entry.file != group[0].file or held + entry.bytes > budget):
            yield group
            group, held = [], 0
        group.append(entry)
        held += entry.bytes
    if group:
        yield group


def _shards(index: Path) -> list[Path]:
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        names = sorted(set(cast(dict[str, str], content["weight_map"]).values()))
        files = [index.parent / name for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DiagnoseError(
            f"{index}: expected a JSON object with a weight_map of tensor names to files, and it "
            f"can't be read as one ({type(error).__name__}: {error}): download it again"
        ) from error
    for file in files:
        if file.suffix != _SUFFIX:
            raise _refused(file)
        if not file.is_file():
            raise DiagnoseError(
                f"{index} names {file.name}, which is not there: the checkpoint is incomplete; "
                "download it again"
            )
    return files


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise DiagnoseError(
            f"{file}: not a whole safetensors file ({error}); it was cut short while it was "
            "written or downloaded, or is of another format: get it again"
        ) from error


def _refused(file: Path) -> DiagnoseError:
    return DiagnoseError(
        f"{file}: pickles are not read, since opening one can run any code: expected *{_SUFFIX}. "
        "Convert it where you trust it: model.save_pretrained(folder, safe_serialization=True)"
    )
