"""MiLoRA: the adapter takes the minor singular components of W (arXiv 2406.09044, §3).

    >>> factors(W, 16)

W = U Σ Vᵀ with σ₁ ≥ … ≥ σ_R: A⁰ = √(Σ_r/s) V_rᵀ and B⁰ = U_r √(Σ_r/s) of the *last* r components,
and the frozen weight keeps the rest, W − sB⁰A⁰. PiSSA (PEFT's own) takes the first r instead.
"""

from torch import Tensor

from loram.schemes._factors import Factors
from loram.schemes._svd import balanced, checked_svd

__all__ = ["factors"]


def factors(W: Tensor, r: int, *, scaling: float = 1.0) -> Factors:
    """MiLoRA's starting factors for the frozen weight W.

    Args:
        W: (n, m), floating dtype, read only.
        r: rank, 1 ≤ r ≤ min(n, m).
        scaling: s, by which PEFT multiplies BA: the factors are divided by √s, as in PEFT's PiSSA.

    Returns:
        B0 (n, r) and A0 (r, m) in float32 (float64 if W is), with s·B0·A0 the last r components.
        Minor components lie close together, so their vectors are computed in float64: in float32
        they come out as a mixture.

    Raises:
        ValueError: r out of range, a scaling ≤ 0, NaN or Inf in W.
        TypeError: W is not floating point.
    """
    if not scaling > 0:
        raise ValueError(f"expected a scaling > 0, got {scaling}")
    U, S, Vh = checked_svd(W, r)
    return balanced(U[:, -r:], S[-r:] / scaling, Vh[-r:], like=W)
