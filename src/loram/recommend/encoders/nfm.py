"""NFM (arXiv 1708.05027): a perceptron over the pooled pairwise products."""

import torch
from torch import Tensor, nn

from loram.recommend.encoders.fields import FieldTable
from loram.recommend.encoders.layers import Linear, perceptron

__all__ = ["NFM"]


class NFM(nn.Module):
    """y = w·x + b + MLP(Σ_{i<j} v_i ⊙ v_j), after batch normalisation.

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
        own = 0 if self.replace else width
        self.norm = nn.BatchNorm1d(width)
        self.deep = perceptron(own + context, hidden, dropout)

    def forward(self, tokens: Tensor, context: Tensor | None = None) -> Tensor:
        """Logits (n,) of tokens (n, fields), and a context (n, width) if it was made for one."""
        vectors = self.table(tokens)
        pooled = (vectors.sum(1) ** 2 - (vectors**2).sum(1)) / 2  # their equation 4
        parts = [] if self.replace else [self.norm(pooled)]
        deep = torch.cat(parts if context is None else [*parts, context], dim=1)
        return self.linear(tokens) + self.deep(deep).squeeze(1)
