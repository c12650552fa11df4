"""LoRA-One: the adapter starts at one step of full gradient descent (arXiv 2502.01235, Alg. 1).

    >>> factors(gradient, 16)

−G = U Σ Vᵀ for the full gradient G = ∂L/∂W: B⁰ = U_r √(Σ_r/(γσ₁)) and A⁰ = √(Σ_r/(γσ₁)) V_rᵀ of the
first r components. The frozen weight is kept, so the model starts at W + sB⁰A⁰: the pretrained
weight moved along the best rank-r gradient step, on purpose.

The paper writes Σ/γ; the authors' code also divides by σ₁, which makes the step independent of the
gradient's scale. This is the authors' code; `normalise=False` is the paper's formula.
"""

from torch import Tensor

from loram.schemes._factors import Factors
from loram.schemes._svd import balanced, check, checked_svd

__all__ = ["GAMMA", "check_gradient", "factors"]

GAMMA = 128.0
"""The authors' γ."""


def factors(G: Tensor, r: int, *, gamma: float = GAMMA, normalise: bool = True) -> Factors:
    """LoRA-One's starting factors from the gradient of the loss at the pretrained weight.

    Args:
        G: (n, m), ∂L/∂W, floating dtype, read only.
        r: rank, 1 ≤ r ≤ min(n, m).
        gamma: γ > 0; the step in W is s/γ times the (normalised) gradient.
        normalise: divide by σ₁.

    Returns:
        B0 (n, r) and A0 (r, m) in float32 (float64 if G is). By Proposition 5 of arXiv 2507.06558
        their directions are the orthonormal ones that maximise ‖∇A‖ and ‖∇B‖.

    Raises:
        ValueError: r out of range, γ ≤ 0, NaN or Inf in G, or G all zero.
        TypeError: G is not floating point.
    """
    if not gamma > 0:
        raise ValueError(f"expected gamma > 0, got {gamma}")
    check_gradient(G, r)
    U, S, Vh = checked_svd(-G, r)
    step = S[:r] / (gamma * (S[0] if normalise else 1.0))
    return balanced(U[:, :r], step, Vh[:r], like=G)


def check_gradient(G: Tensor, r: int) -> None:
    """Whether a gradient (n, m) can start an adapter of rank r; errors as `factors`."""
    check(G, r)
    if not G.any():
        raise ValueError(
            "the gradient is all zero, so LoRA-One has no direction to start in: calibrate on "
            "examples whose loss reaches this layer, or leave the layer out"
        )
