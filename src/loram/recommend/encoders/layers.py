"""What the CTR bases share: a perceptron and the linear part."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from loram.recommend.encoders.fields import FieldTable

__all__ = ["Linear", "perceptron"]


def perceptron(inputs: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear, ReLU, dropout for each hidden width, then a linear to one logit."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 1))


class Linear(nn.Module):
    """A bias and one weight for each value of each field."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.table = FieldTable(sizes, 1)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (n,) of tokens (n, fields)."""
        return self.table(tokens).sum((1, 2)) + self.bias
