"""Tensors of a checkpoint, one at a time, without building the model.

safetensors maps a file into memory, and what was read stays resident while the file is open. So the
file is opened again once as much was read as its largest tensor holds: a checkpoint of any size
costs the memory of one tensor.
"""

from collections.abc import Callable, Iterator

from torch import Tensor

from loram.checkpoints import Entry, opened

__all__ = ["read"]

_FLOOR = 16 << 20  # bytes; opening a file again for less is a waste


def read(wanted: list[Entry], use: Callable[[Entry, Tensor], None]) -> None:
    """Hand every tensor to `use`, which must not keep it; a tensor's worth of memory at a time.

    Args:
        wanted: float tensors, those of a file together.
        use: gets the entry and its tensor, on the CPU, in its own dtype.

    Raises:
        CheckpointError: a file was damaged in the meantime.
    """
    for group in _groups(wanted):
        with opened(group[0].file) as held:
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
