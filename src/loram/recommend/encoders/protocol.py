"""What every encoder of users and items is to those who use its vectors."""

from typing import Protocol

from torch import Tensor

from loram.recommend.interactions import Ints
from loram.recommend.samples import Samples

__all__ = ["Encoder"]


class Encoder(Protocol):
    """Vectors of users, items, histories and contexts; no gradient flows out of it.

    `widths` says which of `user`, `item`, `sequence` and `context` it gives, and how wide. Codes of
    `UNKNOWN` (−1) are a cold start: they get a vector of zeros unless the encoder says otherwise.
    """

    @property
    def widths(self) -> dict[str, int]:
        """Width of each vector it gives, by name."""
        ...

    def encode(self, samples: Samples) -> dict[str, Tensor]:
        """Vectors (n, width) float32 by name; `item` is that of the targets."""
        ...

    def item_vectors(self, item: Ints) -> Tensor:
        """Vectors (..., width) float32 of item codes (...): histories and candidates alike."""
        ...
