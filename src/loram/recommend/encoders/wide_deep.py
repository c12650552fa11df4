"""Wide & Deep (arXiv 1606.07792): a linear part beside a perceptron over all embeddings."""

from torch import Tensor

from loram.recommend.encoders.ctr import ClickModel

__all__ = ["WideDeep"]


class WideDeep(ClickModel):
    """y = w·x + b + MLP(concatenated embeddings). The wide part has no hand-made crosses."""

    def first_width(self, fields: int, width: int) -> int:
        """All embeddings beside each other."""
        return fields * width

    def first(self, vectors: Tensor) -> Tensor:
        """(n, fields × width)."""
        return vectors.flatten(1)
