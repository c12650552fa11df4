"""What the models of click-through rate share: a linear part, embedded fields, a perceptron."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from loram.recommend.encoders.fields import FieldTable
from loram.recommend.encoders.layers import Linear, perceptron

__all__ = ["ClickModel"]


class ClickModel(nn.Module, ABC):
    """y = w·x + b + products(v) + MLP([first(v), context]), v the embedded fields.

    Args:
        sizes: values of each field.
        width: of the embeddings.
        hidden: widths of the perceptron.
        dropout: after each hidden layer.
        context: width of a context vector given beside; 0 for none.
        replace: the context is the perceptron's whole input, not one more part of it.
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        *,
        width: int = 16,
        hidden: tuple[int, ...] = (256, 128),
        dropout: float = 0.0,
        context: int = 0,
        replace: bool = False,
    ) -> None:
        super().__init__()
        self.linear = Linear(sizes)
        self.table = FieldTable(sizes, width)
        self.replace = replace and context > 0
        own = 0 if self.replace else self.first_width(len(sizes), width)
        self.deep = perceptron(own + context, hidden, dropout)

    @abstractmethod
    def first_width(self, fields: int, width: int) -> int:
        """Columns of `first`, of that many fields."""

    @abstractmethod
    def first(self, vectors: Tensor) -> Tensor:
        """What the perceptron sees of v (n, fields, width)."""

    def products(self, vectors: Tensor) -> Tensor | float:
        """Added to the logit: none unless a model has them."""
        return 0.0

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """Logits (n,) of tokens (n, fields), and a context (n, width) if it was made for one."""
        vectors = self.table(tokens)
        parts = [] if self.replace else [self.first(vectors)]
        deep = torch.cat(parts if context is None else [*parts, context], dim=1)
        return self.linear(tokens) + self.products(vectors) + self.deep(deep).squeeze(1)
