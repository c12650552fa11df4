"""Interactions as tokens: one categorical field for user, item, each context and each feature."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from loram.recommend.errors import RecommendError
from loram.recommend.interactions import UNKNOWN, Column, Interactions, Ints

__all__ = ["FieldTable", "Fields"]


class Fields(NamedTuple):
    """Which fields there are, in the order of the columns of tokens.

    Attributes:
        names: `user`, `item`, then contexts, then features of users and of items.
        sizes: values of each, the unknown one included.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    @staticmethod
    def of(data: Interactions, *, context: bool = True, features: bool = True) -> "Fields":
        """The fields of a data set.

        Raises:
            RecommendError: two fields have the same name.
        """
        columns: dict[str, int] = {"user": len(data.users), "item": len(data.items)}
        sides = (data.user_features, data.item_features) if features else ()
        asked: list[Mapping[str, Column]] = [*([data.context] if context else []), *sides]
        names = [*columns, *(name for each in asked for name in each)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise RecommendError(
                f"{data.name}: expected context and features of different names, got "
                f"{', '.join(twice)} twice: rename a column"
            )
        groups = {name: column for each in asked for name, column in each.items()}
        columns |= {name: len(column.vocabulary) for name, column in groups.items()}
        return Fields(tuple(columns), tuple(size + 1 for size in columns.values()))

    def tokens(self, data: Interactions) -> Tensor:
        """Token ids (n, fields) int64: 0 is unknown, code c is c + 1, each field on its own.

        Raises:
            RecommendError: a field is not in the data.
        """
        return self.tokens_of(
            data, data.user, data.item, {name: c.codes for name, c in data.context.items()}
        )

    def tokens_of(
        self, data: Interactions, user: Ints, item: Ints, context: Mapping[str, Ints]
    ) -> Tensor:
        """Likewise for targets that need not be rows of the data."""
        columns: list[Ints] = []
        for name, size in zip(self.names, self.sizes, strict=True):
            codes = _codes(data, name, user, item, context)
            # A value beyond what the encoder was made with is as unknown as a missing one.
            columns.append(np.where((codes < 0) | (codes >= size - 1), UNKNOWN, codes) + 1)
        return torch.from_numpy(np.column_stack(columns).astype(np.int64))


def _codes(
    data: Interactions, name: str, user: Ints, item: Ints, context: Mapping[str, Ints]
) -> Ints:
    if name in ("user", "item"):
        return user if name == "user" else item
    if name in context:
        return context[name]
    for owner, features in ((user, data.user_features), (item, data.item_features)):
        if name in features:
            values = features[name].codes
            inside = (owner >= 0) & (owner < len(values))
            return np.where(inside, values[np.where(inside, owner, 0)], UNKNOWN)
    raise RecommendError(
        f"{data.name}: expected the field {name!r}, got "
        f"{['user', 'item', *context, *data.user_features, *data.item_features]}"
    )


class FieldTable(nn.Module):
    """One embedding table for all fields; row 0 of each field, the unknown, is zeros and stays.

    Args:
        sizes: of the fields.
        width: of the vectors.
        std: of the normal start.
    """

    offsets: Tensor

    def __init__(self, sizes: tuple[int, ...], width: int, *, std: float = 0.05) -> None:
        super().__init__()
        offsets = torch.tensor((0, *sizes[:-1])).cumsum(0)
        self.register_buffer("offsets", offsets, persistent=False)
        self.weight = nn.Parameter(torch.randn(sum(sizes), width) * std)

    @torch.no_grad()
    def cold(self, tokens: Tensor) -> None:
        """Zero the vectors of what is in no row of tokens (n, fields): what is not learnt from.

        They get no gradient, so they stay zeros, the vector of the unknown.
        """
        unseen = torch.ones(len(self.weight), dtype=torch.bool)
        unseen[(tokens + self.offsets).unique()] = False
        self.weight[unseen] = 0

    def forward(self, tokens: Tensor) -> Tensor:
        """Vectors (n, fields, width) of tokens (n, fields)."""
        vectors = nn.functional.embedding(tokens + self.offsets, self.weight)
        return vectors * (tokens > 0)[:, :, None]

    def field(self, number: int, size: int) -> Tensor:
        """The rows (size, width) of one field."""
        start = int(self.offsets[number])
        known = torch.arange(size) > 0
        return self.weight[start : start + size] * known[:, None]
