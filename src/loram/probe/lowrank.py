"""Spectra of products of thin factors, from their small Gram matrices, layers at a time.

The n × m product LR of L (n, k) and R (k, m) has ‖LR‖²_F = Σ (LᵀL)∘(RRᵀ), and its singular values
are those of C_Lᵀ C_R with C_L C_Lᵀ = LᵀL and C_R C_Rᵀ = RRᵀ: the product itself is never formed.
"""

import torch
from torch import Tensor

__all__ = ["effective_rank", "singular_values", "squared_norm", "stable_rank"]

# Added to the diagonal of Gram matrices with a unit diagonal, so that dependent columns factorise.
# It moves a singular value by 1e-7 of what the columns' own lengths allow, at most.
_JITTER = 1e-14


def squared_norm(left: Tensor, right: Tensor) -> Tensor:
    """‖LR‖²_F (...,) from LᵀL and RRᵀ, each (..., k, k)."""
    return (left * right).sum((-2, -1)).clamp_min(0)  # rounding may go a hair below zero


def singular_values(left: Tensor, right: Tensor) -> Tensor:
    """Singular values of LR (..., k), descending, zeros included; NaN where not all is finite.

    Columns of L and rows of R are brought to length 1 first, and their lengths multiplied: small
    deviations beside a large start, which is what an update is made of, lose no digits. Values
    below 1e-7 of the largest are noise.

    Args:
        left: LᵀL (..., k, k), float64.
        right: RRᵀ (..., k, k), float64.
    """
    finite = (left.isfinite() & right.isfinite()).all(-1).all(-1)
    left, right = (torch.where(finite[..., None, None], G, 0.0) for G in (left, right))
    (left, lengths), (right, widths) = _normalised(left), _normalised(right)
    weights = lengths * widths
    largest = weights.amax(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    weights = weights / largest
    eye = torch.eye(left.shape[-1], dtype=left.dtype, device=left.device)
    C, info = torch.linalg.cholesky_ex(left + _JITTER * eye)
    # Grams of float64 factors are positive to rounding; larger jitter is for the odd one that is
    # not. (An error check here would wait for the device.)
    again, _ = torch.linalg.cholesky_ex(left + 1e3 * _JITTER * eye)
    C = torch.where((info == 0)[..., None, None], C, again)
    scaled = weights[..., :, None] * right * weights[..., None, :]
    squares = torch.linalg.eigvalsh(C.mT @ scaled @ C).flip(-1).clamp_min(0)
    sigma = squares.sqrt() * largest
    return torch.where(finite[..., None], sigma, torch.nan)


def stable_rank(sigma: Tensor) -> Tensor:
    """‖·‖²_F / σ₁² (...,) of singular values (..., k), descending; NaN where all are zero."""
    p = sigma / sigma[..., :1]
    return p.square().sum(-1)


def effective_rank(sigma: Tensor) -> Tensor:
    """exp(−Σ pᵢ log pᵢ) (...,), p = σ/Σσ, of singular values (..., k); NaN where all are zero.

    Source: Roy and Vetterli, "The effective rank" (EUSIPCO 2007).
    """
    p = sigma / sigma.sum(-1, keepdim=True)
    return torch.special.entr(p).sum(-1).exp()


def _normalised(gram: Tensor) -> tuple[Tensor, Tensor]:
    """The Gram matrix (..., k, k) of the columns at length 1, and their lengths (..., k)."""
    lengths = gram.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    inverse = torch.where(lengths > 0, 1 / lengths, 0.0)
    return inverse[..., :, None] * gram * inverse[..., None, :], lengths
