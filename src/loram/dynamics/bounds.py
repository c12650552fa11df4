"""What an update of bounded magnitude or rank can't reach, and where gradients are largest.

Source: arXiv 2507.06558, Appendix B (the bound) and Proposition 5 (the directions).
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["ExcessRisk", "excess_risk", "steepest_factors"]


class ExcessRisk(NamedTuple):
    """Lower bounds on the excess risk of a linear model.

    Attributes:
        magnitude: from the bounded magnitude alone.
        rank: from the bounded rank alone.
    """

    magnitude: float
    rank: float


def excess_risk(gap: Tensor, covariance: Tensor, *, nu: float, r: int) -> ExcessRisk:
    """Lower bounds on E‖(W + ΔW − W*)x‖² when ν[ΔW] ≤ nu and rank ΔW ≤ r (Appendix B).

    E‖Ex‖² = tr(E Σ Eᵀ) ≥ λ_min(Σ)‖E‖²_F, and ‖W* − W − ΔW‖_F is at least the distance of W* − W
    from the ball of radius √(nm·nu), and from the matrices of rank r, √(Σ_{i>r} σ_i²).

    Args:
        gap: W* − W (n, m).
        covariance: Σ = E xxᵀ (m, m), symmetric.
        nu: bound on ν[ΔW], ≥ 0.
        r: bound on the rank, ≥ 0.

    Raises:
        ValueError: shapes that do not go together, or a negative bound.
    """
    n, m = gap.shape
    if covariance.shape != (m, m):
        raise ValueError(f"expected Σ ({m}, {m}) for W ({n}, {m}), got {tuple(covariance.shape)}")
    if nu < 0 or r < 0:
        raise ValueError(f"expected bounds ≥ 0, got nu = {nu} and r = {r}")
    least = max(float(torch.linalg.eigvalsh(covariance.double())[0]), 0.0)
    sigma = torch.linalg.svdvals(gap.double())
    outside = max(float(sigma.norm()) - (n * m * nu) ** 0.5, 0.0)
    return ExcessRisk(least * outside**2, least * float(sigma[r:].square().sum()))


def steepest_factors(G: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """Orthonormal B⁰ (n, r) and A⁰ (r, m) with the largest ‖∇A‖_F and ‖∇B‖_F (Proposition 5).

    ∇A = sBᵀG and ∇B = sGAᵀ: by the Ky Fan theorem the first r singular vectors of G.

    Args:
        G: ∂L/∂W (n, m).
        r: 1 ≤ r ≤ min(n, m).

    Raises:
        ValueError: r out of range.
    """
    if not 1 <= r <= min(G.shape):
        raise ValueError(f"expected 1 ≤ r ≤ min(n, m) = {min(G.shape)}, got r = {r}")
    U, _, Vh = torch.linalg.svd(G.double(), full_matrices=False)
    return U[:, :r].to(G), Vh[:r].to(G)
