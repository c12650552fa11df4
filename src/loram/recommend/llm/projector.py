"""From a recommender's vectors to input embeddings of a language model: the MLPs as published."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

from loram.recommend.llm.case import Slot
from loram.recommend.llm.vectors import Vectors

__all__ = ["GROUPS", "SHAPES", "Projectors", "Shape"]

Shape = Literal["collm", "llara"]


def _collm(width: int, hidden: int) -> nn.Module:
    """Linear(d → 10d), ReLU, Linear(→ hidden): CoLLM, arXiv 2310.19488."""
    return nn.Sequential(nn.Linear(width, 10 * width), nn.ReLU(), nn.Linear(10 * width, hidden))


def _llara(width: int, hidden: int) -> nn.Module:
    """Linear(d → hidden), GELU, Linear: LLaRA, arXiv 2312.02445."""
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden))


SHAPES: MappingProxyType[str, Callable[[int, int], nn.Module]] = MappingProxyType(
    {"collm": _collm, "llara": _llara}
)

# Kinds of vectors that share a projector: those of one space. A context has one of its own.
GROUPS = MappingProxyType(
    {"user": "shared", "item": "shared", "sequence": "shared", "context": "context"}
)


class Projectors(nn.Module):
    """One MLP for users, items and sequences together, as published, and one for contexts."""

    def __init__(self, widths: Mapping[str, int], hidden: int, shape: Shape) -> None:
        """Make those that are needed.

        Args:
            widths: of the vectors, by kind: user, item, sequence, context.
            hidden: of the language model.
            shape: a row of `SHAPES`.

        Raises:
            ValueError: kinds that share a projector have different widths.
        """
        super().__init__()
        self.hidden = hidden
        found: dict[str, int] = {}
        for kind, width in widths.items():
            if found.setdefault(GROUPS[kind], width) != width:
                raise ValueError(
                    f"user, item and sequence vectors share a projector and need one width, got "
                    f"{dict(widths)}"
                )
        self.of = nn.ModuleDict(
            {group: SHAPES[shape](width, hidden) for group, width in found.items()}
        )

    def forward(self, slots: Sequence[Slot], vectors: Vectors) -> Tensor:
        """What is written into the slots, in their order.

        Returns:
            (slots, hidden), in the vectors' dtype.
        """
        places: list[int] = []
        parts: list[Tensor] = []
        for kind in dict.fromkeys(slot.kind for slot in slots):
            mine = [i for i, slot in enumerate(slots) if slot.kind == kind]
            rows = vectors.rows(kind, [slots[i].row for i in mine])
            parts.append(self.of[GROUPS[kind]](rows))
            places += mine
        order = torch.tensor(places).argsort()
        return torch.cat(parts)[order.to(parts[0].device)]
