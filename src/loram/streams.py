"""Tensors of a checkpoint as pieces, whatever their size: what `loram init` reads weights by.

The files are read, not mapped: what was touched of a mapped file counts as this process's memory.
While one piece is used, a thread reads the next.

>>> with Stream(wanted) as stream:
...     for entry, piece in stream:
...         ...
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from loram.checkpoints import CheckpointError, Entry

__all__ = ["DTYPES", "Piece", "Stream", "read_whole"]

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""By safetensors' name; others are codes, not weights."""

_SIZE = 4 << 20  # bytes of a piece: a multiple of the runs of `loram.magnitude`, in every dtype


class Piece(NamedTuple):
    """Some entries of a tensor.

    Attributes:
        entry: the tensor.
        data: (k,), in the file's dtype; gone once the next piece is asked for.
    """

    entry: Entry
    data: Tensor


class _Read(NamedTuple):
    entry: Entry
    begin: int
    bytes: int


class Stream:
    """The entries' tensors one after another, each in pieces of 4 MiB (the last one shorter).

    Args:
        wanted: float tensors; a file is opened once for neighbours in it.

    Raises:
        CheckpointError: a file that ends before its tensors do.
    """

    def __init__(self, wanted: Sequence[Entry]) -> None:
        self._wanted = wanted
        self._pool = ThreadPoolExecutor(1, "loram-read")
        self._file: Any = None
        self._path: Path | None = None
        self._buffers = [torch.empty(_SIZE, dtype=torch.uint8) for _ in range(2)]

    def __enter__(self) -> "Stream":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._file is not None:
            self._file.close()

    def __iter__(self) -> Iterator[Piece]:
        ahead: list[tuple[_Read, Tensor, Future[None]]] = []
        for turn, read in enumerate(_reads(self._wanted)):
            buffer = self._buffers[turn % len(self._buffers)]
            ahead.append((read, buffer, self._pool.submit(self._fill, read, buffer)))
            if len(ahead) == len(self._buffers):
                yield _piece(*ahead.pop(0))
        for rest in ahead:
            yield _piece(*rest)

    def _fill(self, read: _Read, buffer: Tensor) -> None:
        path = read.entry.file
        try:
            if path != self._path:
                if self._file is not None:
                    self._file.close()
                self._file, self._path = path.open("rb", buffering=0), path
            self._file.seek(read.begin)
            view, got = memoryview(buffer.numpy())[: read.bytes], 0
            while got < read.bytes:
                count = self._file.readinto(view[got:])
                if not count:
                    raise CheckpointError(f"{path}: ends within {read.entry.name}: get it again")
                got += count
        except OSError as error:
            raise CheckpointError(f"{path}: can't be read ({error})") from error


def read_whole(entry: Entry) -> Tensor:
    """A tensor in its own dtype and shape, in memory of its own.

    Raises:
        CheckpointError: the file can't be read.
    """
    whole = torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
    flat, at = whole.view(-1), 0
    with Stream([entry]) as stream:
        for piece in stream:
            flat[at : at + len(piece.data)] = piece.data
            at += len(piece.data)
    return whole


def _piece(read: _Read, buffer: Tensor, done: Future[None]) -> Piece:
    done.result()
    return Piece(read.entry, buffer[: read.bytes].view(DTYPES[read.entry.dtype]))


def _reads(wanted: Sequence[Entry]) -> Iterator[_Read]:
    path, offsets = None, dict[str, int]()
    for entry in wanted:
        if entry.file != path:
            path, offsets = entry.file, _offsets(entry.file)
        begin = offsets[entry.name]
        for at in range(0, entry.bytes, _SIZE):
            yield _Read(entry, begin + at, min(_SIZE, entry.bytes - at))


def _offsets(file: Path) -> dict[str, int]:
    """Where the tensors begin, by safetensors' format: 8 bytes of length, JSON, then the data.

    The library checks the header but does not tell the offsets.
    """
    with file.open("rb") as held:
        length = int.from_bytes(held.read(8), "little")
        header = json.loads(held.read(length))
    return {
        name: 8 + length + entry["data_offsets"][0]
        for name, entry in header.items()
        if name != "__metadata__"
    }
