"""Writing vectors into a language model's input embeddings, at positions given by a mask.

No token is added to the vocabulary and none is taken for a placeholder: the mask alone says where a
vector goes, whatever id stands there.
"""

from torch import Tensor

__all__ = ["inject"]


def inject(embeddings: Tensor, positions: Tensor, vectors: Tensor) -> Tensor:
    """The embeddings with vectors in the place of those at the marked positions.

    Args:
        embeddings: (batch, length, hidden), of the tokens.
        positions: (batch, length) bool, true where a vector goes.
        vectors: (marked positions, hidden), in the order of the positions row by row; cast to the
            embeddings' dtype.

    Returns:
        (batch, length, hidden), a new tensor. The gradient at a marked position flows to the vector
        only.

    Raises:
        ValueError: shapes that do not fit.
    """
    marked = int(positions.sum())
    if positions.shape != embeddings.shape[:2]:
        raise ValueError(
            f"expected a mask of shape {tuple(embeddings.shape[:2])}, got {tuple(positions.shape)}"
        )
    if vectors.shape != (marked, embeddings.shape[2]):
        raise ValueError(
            f"expected {marked} vectors of width {embeddings.shape[2]}, one for every marked "
            f"position, got {tuple(vectors.shape)}"
        )
    return embeddings.masked_scatter(positions[..., None], vectors.to(embeddings.dtype))
