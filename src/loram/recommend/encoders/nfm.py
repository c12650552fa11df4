"""NFM (arXiv 1708.05027): a perceptron over the pooled pairwise products."""

from typing import Any

from torch import Tensor, nn

from loram.recommend.encoders.ctr import ClickModel

__all__ = ["NFM"]


class NFM(ClickModel):
    """y = w·x + b + MLP(Σ_{i<j} v_i ⊙ v_j), after batch normalisation."""

    def __init__(self, sizes: tuple[int, ...], *, width: int = 16, **settings: Any) -> None:
        super().__init__(sizes, width=width, **settings)
        self.norm = nn.BatchNorm1d(width)

    def first_width(self, fields: int, width: int) -> int:
        """One pooled vector."""
        return width

    def first(self, vectors: Tensor) -> Tensor:
        """(n, width), their equation 4."""
        return self.norm((vectors.sum(1) ** 2 - (vectors**2).sum(1)) / 2)
