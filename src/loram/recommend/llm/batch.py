"""Prompts and answers as padded batches."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from loram.recommend.llm.case import Slot
from loram.recommend.llm.prompt import Tokens

__all__ = ["IGNORED", "Batch", "collate"]

IGNORED = -100


class Batch(NamedTuple):
    """What a model reads at once.

    Attributes:
        ids: (batch, length) int64; the padding token at slots and padding.
        mask: (batch, length) int64, 0 at padding.
        positions: (batch, length) int64, counted from the first token that is not padding.
        labels: (batch, length) int64, −100 outside the answers.
        is_slot: (batch, length) bool.
        slots: of the batch, row by row.
        rows: (batch,) rows of the sequence and context vectors, for gates.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor
    labels: Tensor
    is_slot: Tensor
    slots: tuple[Slot, ...]
    rows: tuple[int, ...]

    def to(self, device: torch.device) -> "Batch":
        """On another device."""
        moved = {k: v.to(device) for k, v in self._asdict().items() if isinstance(v, Tensor)}
        return self._replace(**moved)


def collate(
    prompts: Sequence[Tokens],
    answers: Sequence[Sequence[int]],
    rows: Sequence[int],
    pad: int,
    *,
    side: Literal["left", "right"] = "left",
    start: int = 0,
) -> Batch:
    """Pad prompts with their answers to one length.

    Args:
        prompts: token ids and slots.
        answers: token ids, which alone have labels; empty where nothing is to be predicted.
        rows: of the cases' vectors.
        pad: id of the padding token.
        side: of the padding. On the left, all answers end together, so that a model needs to
            compute logits for the last tokens only.
        start: of the positions, after a prefix that is cached.
    """
    whole = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    width = max(map(len, whole))

    def padded(values: Sequence[Sequence[int]], value: int) -> Tensor:
        gaps = [[value] * (width - len(row)) for row in values]
        left = side == "left"
        return torch.tensor(
            [[*gap, *row] if left else [*row, *gap] for gap, row in zip(gaps, values, strict=True)]
        )

    return Batch(
        ids=padded([[pad if isinstance(m, Slot) else m for m in row] for row in whole], pad),
        mask=padded([[1] * len(row) for row in whole], 0),
        positions=padded([range(start, start + len(row)) for row in whole], 0),
        labels=padded(
            [
                [IGNORED] * len(prompt) + list(answer)
                for prompt, answer in zip(prompts, answers, strict=True)
            ],
            IGNORED,
        ),
        is_slot=padded([[isinstance(m, Slot) for m in row] for row in whole], False).bool(),
        slots=tuple(m for row in whole for m in row if isinstance(m, Slot)),
        rows=tuple(rows),
    )
