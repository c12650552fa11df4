"""DeepFM (arXiv 1703.04247): linear, pairwise products and a perceptron on one embedding."""

from torch import Tensor

from loram.recommend.encoders.wide_deep import WideDeep

__all__ = ["DeepFM"]


class DeepFM(WideDeep):
    """y = w·x + b + Σ_{i<j} v_i·v_j + MLP(concatenated embeddings)."""

    def products(self, vectors: Tensor) -> Tensor:
        """Σ_{i<j} v_i·v_j (n,), their equation 2."""
        return ((vectors.sum(1) ** 2) - (vectors**2).sum(1)).sum(1) / 2
