"""The order of training examples: random, or random among examples of like length."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import Trainer

__all__ = ["ByLength", "LengthOrderedTrainer"]

_POOL = 16  # batches that are sorted together: of the padding, nine tenths are gone


class ByLength(Sampler[int]):
    """Indices whose batches hold examples of like length, in another order each epoch.

    All examples are shuffled, sorted within pools of 16 batches, and the batches shuffled again: no
    batch comes early because it is long. The order depends on seed and epoch alone, so that a run
    that was killed goes on with the same batches.

    Args:
        lengths: of the examples, in tokens.
        batch_size: examples of a batch.
        seed: of the order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader before each epoch, counted from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + 10_007 * self._epoch)
        order: list[int] = torch.randperm(len(self), generator=generator).tolist()
        size = self._batch_size
        pool = size * _POOL
        batches: list[list[int]] = []
        for first in range(0, len(order), pool):
            part = sorted(order[first : first + pool], key=self._lengths.__getitem__)
            batches += [part[at : at + size] for at in range(0, len(part), size)]
        # An incomplete batch stays last: in front it would shift the bounds of all others.
        whole = batches if len(order) % size == 0 else batches[:-1]
        for at in torch.randperm(len(whole), generator=generator).tolist():
            yield from whole[at]
        for batch in batches[len(whole) :]:
            yield from batch


class LengthOrderedTrainer(Trainer):
    """Transformers' Trainer with batches of examples of like length.

    Its own `group_by_length` gives each pool's batches from the longest to the shortest, and wants
    examples that are dicts; here they are rows with `input_ids`.
    """

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows = self.train_dataset if train_dataset is None else train_dataset
        assert rows is not None
        lengths = [len(row.input_ids) for row in rows]  # pyright: ignore[reportAttributeAccessIssue]
        args = self.args
        batch = args.train_batch_size * args.world_size  # several processes share one
        return ByLength(lengths, batch, args.data_seed or args.seed)
