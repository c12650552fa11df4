"""Tensors of a checkpoint in pieces, whatever their size: how `loram init` reads weights.

The files are read, not mapped: what was touched of a mapped file counts as this process's memory.

>>> for piece in pieces(entry):
...     mean.add(piece)
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from loram.checkpoints import CheckpointError, Entry

__all__ = ["DTYPES", "one_thread", "pieces", "read_whole"]

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""By safetensors' name; others are codes, not weights."""

# Bytes of a piece: a multiple of the runs of `loram.magnitude` in every dtype. It, and what it is
# widened to, should stay in a core's cache until they are used.
_SIZE = 1 << 20


def pieces(entry: Entry) -> Iterator[Tensor]:
    """A tensor's entries in their order, in pieces of 1 MiB, the last one shorter.

    Args:
        entry: a float tensor.

    Yields:
        (k,), in the file's dtype; gone once the next piece is asked for.

    Raises:
        CheckpointError: the file can't be read, or ends before the tensor does.
    """
    buffer = torch.empty(min(_SIZE, entry.bytes), dtype=torch.uint8)
    view, typed = memoryview(cast(Any, buffer.numpy())), buffer.view(DTYPES[entry.dtype])
    try:
        with entry.file.open("rb", buffering=0) as held:
            held.seek(entry.begin)
            for at in range(0, entry.bytes, _SIZE):
                size, got = min(_SIZE, entry.bytes - at), 0
                while got < size:
                    count = held.readinto(view[got:size])
                    if not count:
                        raise CheckpointError(
                            f"{entry.file}: ends within {entry.name}; get it again"
                        )
                    got += count
                yield typed[: size // typed.itemsize]
    except OSError as error:
        raise CheckpointError(f"{entry.file}: can't be read ({error})") from error


def read_whole(entry: Entry) -> Tensor:
    """A tensor in its own dtype and shape, in memory of its own.

    Raises:
        CheckpointError: as `pieces`.
    """
    whole = torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
    flat, at = whole.view(-1), 0
    for piece in pieces(entry):
        flat[at : at + len(piece)] = piece
        at += len(piece)
    return whole


@contextmanager
def one_thread() -> Generator[None]:
    """torch's operations are not cut among threads; the number before is put back.

    For threads that are started in the block and have a tensor each: cut at a piece's size, the
    cores would mostly wait for each other.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
