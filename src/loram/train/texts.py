"""Texts with labels as tokens, for a classifier."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from loram.tasks.task import Labelled

__all__ = ["CollateTexts", "EncodedText", "encode_texts"]


class EncodedText(NamedTuple):
    """Token ids of a text or a pair, which of the two each is of, and the label.

    Attributes:
        input_ids: with the tokenizer's special tokens.
        token_type_ids: None where the model does not tell them apart.
        label: class, or score.
    """

    input_ids: list[int]
    token_type_ids: list[int] | None
    label: int | float


def encode_texts(
    tokenizer: Any, examples: Sequence[Labelled], max_length: int
) -> tuple[EncodedText, ...]:
    """Tokens of every example, cut to `max_length`, of a pair the longer text first.

    A tokenizer that knows no separator, as most decoders', gets a pair as one text of two lines.
    """
    if not examples:
        return ()
    firsts: list[str] = [each.first for each in examples]
    seconds: list[str] | None = None
    if examples[0].second is not None:
        seconds = [each.second or "" for each in examples]
        if tokenizer.sep_token is None:
            firsts = [f"{one}\n{two}" for one, two in zip(firsts, seconds, strict=True)]
            seconds = None
    made = tokenizer(
        firsts, seconds, truncation=True, max_length=max_length, return_attention_mask=False
    )
    types = made.get("token_type_ids") or [None] * len(examples)
    return tuple(
        EncodedText(ids, kinds, each.label)
        for ids, kinds, each in zip(made["input_ids"], types, examples, strict=True)
    )


class CollateTexts:
    """Pads a batch on the right to its longest member.

    Args:
        pad_token_id: of the tokenizer.
        dtype: of the labels: int64 for classes, float32 for scores.
    """

    def __init__(self, pad_token_id: int, dtype: torch.dtype) -> None:
        self._pad = pad_token_id
        self._dtype = dtype

    def __call__(self, batch: Sequence[EncodedText]) -> dict[str, Tensor]:
        """input_ids, attention_mask, token_type_ids if any (examples, longest); labels."""
        width = max(len(each.input_ids) for each in batch)

        def padded(rows: list[list[int]], value: int) -> Tensor:
            return torch.tensor([row + [value] * (width - len(row)) for row in rows])

        ids = [each.input_ids for each in batch]
        types = [each.token_type_ids for each in batch]
        made = {
            "input_ids": padded(ids, self._pad),
            "attention_mask": padded([[1] * len(row) for row in ids], 0),
            "labels": torch.tensor([each.label for each in batch], dtype=self._dtype),
        }
        known = [row for row in types if row is not None]
        return made | ({"token_type_ids": padded(known, 0)} if known else {})
