"""An encoder's vectors as tables that slots point into, and what controls do to them."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from loram.recommend.interactions import UNKNOWN

__all__ = ["Control", "Vectors"]

Control = Literal["none", "shuffled", "zeroed"]
"""What becomes of the vectors: as they are, rows exchanged at random, or all zero."""


class Vectors(nn.Module):
    """Tables by kind: user, item, and sequence and context by the row of the case.

    A row that the table does not have, such as a user or an item unknown to the encoder, reads
    zeros: the cold start of the encoders.
    """

    def __init__(self, tables: Mapping[str, Tensor]) -> None:
        """Frozen at first.

        Args:
            tables: (rows, width) each.

        Raises:
            ValueError: an empty table, or one that is not finite.
        """
        super().__init__()
        for kind, table in tables.items():
            if table.ndim != 2 or not table.shape[0] or not table.isfinite().all():
                raise ValueError(
                    f"expected {kind} vectors as a finite matrix with a row or more, got shape "
                    f"{tuple(table.shape)}"
                )
        self.tables = nn.ParameterDict(
            {
                kind: nn.Parameter(table.detach().float().clone(), requires_grad=False)
                for kind, table in tables.items()
            }
        )

    @property
    def widths(self) -> dict[str, int]:
        """Of the vectors, by kind."""
        return {kind: table.shape[1] for kind, table in self.tables.items()}

    def rows(self, kind: str, rows: Sequence[int]) -> Tensor:
        """(rows, width): those asked for, zeros where there is none.

        Raises:
            ValueError: there is no table of this kind.
        """
        if kind not in self.tables:
            raise ValueError(
                f"the prompt asks for a {kind} vector and the encoder gives "
                f"{', '.join(self.tables) or 'none'}: use another encoder or template"
            )
        table = self.tables[kind]
        known = [row if 0 <= row < len(table) else UNKNOWN for row in rows]
        index = torch.tensor(known, device=table.device)
        if UNKNOWN not in known:
            return table[index]
        return torch.cat([table, torch.zeros_like(table[:1])])[index]  # −1 is the last

    @torch.no_grad()
    def controlled(self, control: Control, *, seed: int = 0) -> "Vectors":
        """A copy whose vectors say nothing about whom they stand for.

        Args:
            control: `shuffled` keeps the vectors and exchanges rows, but for those of zeros, the
                cold start; `zeroed` keeps the shapes.
            seed: of the exchange.
        """
        return Vectors({k: _CONTROLS[control](table, seed) for k, table in self.tables.items()})


def _shuffled(table: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    known = table.any(1).nonzero()[:, 0]
    shuffled = table.clone()
    shuffled[known] = table[known[torch.randperm(len(known), generator=generator).to(known.device)]]
    return shuffled


_CONTROLS = {
    "none": lambda table, seed: table,
    "shuffled": _shuffled,
    "zeroed": lambda table, seed: torch.zeros_like(table),
}
