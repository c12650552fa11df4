"""Wide & Deep (arXiv 1606.07792): a linear part beside a perceptron over all embeddings."""

import torch
from torch import Tensor, nn

from loram.recommend.encoders.fields import FieldTable
from loram.recommend.encoders.layers import Linear, perceptron

__all__ = ["WideDeep"]


class WideDeep(nn.Module):
    """y = w·x + b + MLP(concatenated embeddings). The wide part has no hand-made crosses.

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
        own = 0 if self.replace else len(sizes) * width
        self.deep = perceptron(own + context, hidden, dropout)

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """Logits (n,) of tokens (n, fields), and a context (n, width) if it was made for one."""
        vectors = self.table(tokens)

        parts = [] if self.replace else [vectors.flatten(1)]
        deep = torch.cat(parts if context is None else [*parts, context], dim=1)
        return self.linear(tokens) + self.deep(deep).squeeze(1)
