"""LoRAM: a basis scaled by the pretrained weight's magnitude (arXiv 2507.06558, eq. 11).

    >>> factors(W, 16)                             # the paper's: DST basis, log gain
    >>> factors(W, 16, basis="orthogonal", gain="spectral", seed=7)

A⁰ = β Φ_mᵀ and B⁰ = β Φ_n with β = (Q[r] ν[W] / ν[Φ_nΦ_mᵀ])^¼, hence ν[B⁰A⁰] = Q[r] ν[W]. There is
no SVD: W is read once, for its magnitude.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from loram.bases import basis as draw_basis
from loram.magnitude import log_gain, nu, nu_product, spectral_gain
from loram.schemes._factors import Factors

__all__ = [
    "DeadAdapterError",
    "Gain",
    "Statistic",
    "beta",
    "beta_for_magnitude",
    "beta_for_product",
    "check_rank",
    "factors",
]

Gain = Literal["log", "spectral"] | float
Statistic = Literal["mean_square", "var"]


class DeadAdapterError(ValueError):
    """The scheme gives β = 0: both factors and both gradients would stay zero for ever."""


def factors(
    W: Tensor,
    r: int,
    *,
    gain: Gain = "log",
    basis: str = "dst",
    statistic: Statistic = "mean_square",
    seed: int = 0,
) -> Factors:
    """LoRAM's starting factors for the frozen weight W.

    Args:
        W: (n, m), floating dtype, read only.
        r: rank, 1 ≤ r ≤ min(n, m).
        gain: Q[r]: `"log"` (log r / log min(n, m)), `"spectral"` (exact, by an SVD), or a number.
        basis: a name of `loram.bases.BASES`.
        statistic: `"mean_square"`, the paper's ν; or `"var"`, what the authors' code computes for W
            and for the product (larger β at small r, since low DST columns have a mean).
        seed: of a random basis.

    Returns:
        B0 (n, r) and A0 (r, m) in float32 (float64 if W is), on W's device, and β.

    Raises:
        ValueError: r, gain, basis or statistic out of range; NaN or Inf in W.
        DeadAdapterError: β would be 0 (r = 1 with the log gain, or an all-zero W).
        TypeError: W is not floating point.

    Source: eq. 11, Algorithm 1. The residual W − sB⁰A⁰ is the caller's business.
    """
    if W.ndim != 2:
        raise ValueError(f"expected a matrix W (n, m), got shape {tuple(W.shape)}")
    n, m = W.shape
    dtype = torch.float64 if W.dtype == torch.float64 else torch.float32
    b = beta(W, r, gain=gain, basis=basis, statistic=statistic, seed=seed)
    phi_n = draw_basis(basis, n, r, seed=seed, side=0, dtype=dtype, device=W.device)
    phi_m = draw_basis(basis, m, r, seed=seed, side=1, dtype=dtype, device=W.device)
    return Factors(B0=b * phi_n, A0=b * phi_m.T, beta=b)


def beta(
    W: Tensor,
    r: int,
    *,
    gain: Gain = "log",
    basis: str = "dst",
    statistic: Statistic = "mean_square",
    seed: int = 0,
) -> float:
    """β = (Q[r] ν[W] / ν[Φ_nΦ_mᵀ])^¼ (eq. 11); arguments and errors as `factors`."""
    n, m = W.shape
    check_rank(n, m, r)
    magnitude = _magnitude(W, statistic)
    if gain == "spectral" and 0 < magnitude < math.inf:  # else what is wrong is said below
        gain = spectral_gain(W, r)
    return beta_for_magnitude(
        magnitude, n, m, r, gain=gain, basis=basis, statistic=statistic, seed=seed
    )


def check_rank(n: int, m: int, r: int) -> None:
    """Refuse a rank that a weight (n, m) does not have.

    Raises:
        ValueError: r is not in [1, min(n, m)].
    """
    if not 1 <= r <= min(n, m):
        raise ValueError(
            f"expected 1 ≤ r ≤ min(n, m) = {min(n, m)} for a weight ({n}, {m}), got r = {r}"
        )


def beta_for_magnitude(
    magnitude: float,
    n: int,
    m: int,
    r: int,
    *,
    gain: Gain = "log",
    basis: str = "dst",
    statistic: Statistic = "mean_square",
    seed: int = 0,
) -> float:
    """β of a weight (n, m) of which the magnitude is known, ν[W] (eq. 11).

    Args:
        magnitude: ν[W], or its variance, by `statistic`.
        n: rows of W.
        m: columns of W.
        r: rank.
        gain: as in `factors`; `"spectral"` needs W itself, so `beta`.
        basis: as in `factors`.
        statistic: as in `factors`.
        seed: of a random basis.

    Raises:
        ValueError, DeadAdapterError: as `factors`.
    """
    if not math.isfinite(magnitude):
        raise ValueError(f"the weight ({n}, {m}) has NaN or Inf entries")
    if magnitude <= 0:
        raise DeadAdapterError(
            f"the weight is {'all zero' if statistic == 'mean_square' else 'constant'} (ν[W] = 0), "
            "so LoRAM would start, and stay, at zero: leave the layer out, or give it plain LoRA"
        )
    q = _gain(n, m, r, gain)
    if q == 0:
        raise DeadAdapterError(
            f"the gain is zero at rank {r} (log 1 = 0), so LoRAM would start, and stay, at zero: "
            "use r ≥ 2, gain=spectral, or a number such as gain=0.1"
        )
    return beta_for_product(q * magnitude, n, m, r, basis=basis, statistic=statistic, seed=seed)


def beta_for_product(
    magnitude: float,
    n: int,
    m: int,
    r: int,
    *,
    basis: str = "dst",
    statistic: Statistic = "mean_square",
    seed: int = 0,
) -> float:
    """β at which B⁰A⁰ has a given magnitude: (ν / ν[Φ_nΦ_mᵀ])^¼ (eq. 11; §4.3's tracking mode).

    Args:
        magnitude: ν[B⁰A⁰] to reach, > 0.
        n: rows of W.
        m: columns of W.
        r: rank.
        basis: a name of `loram.bases.BASES`.
        statistic: as in `factors`.
        seed: of a random basis.

    Raises:
        DeadAdapterError: the magnitude is 0.
    """
    if not magnitude > 0:
        raise DeadAdapterError(
            f"B⁰A⁰ should get the magnitude {magnitude:g}, so LoRAM would start, and stay, at zero"
        )
    return (magnitude / _basis_magnitude(n, m, r, basis, statistic, seed)) ** 0.25


def _gain(n: int, m: int, r: int, gain: Gain) -> float:
    """Q[r] of a weight (n, m): `"log"`, or a number."""
    if gain == "log":
        return log_gain(n, m, r)
    if isinstance(gain, str) or not (math.isfinite(gain) and gain >= 0):
        raise ValueError(f"expected gain log, spectral or a finite number ≥ 0, got {gain!r}")
    return float(gain)


def _magnitude(W: Tensor, statistic: Statistic) -> float:
    """ν[W], or the variance of W's entries that the authors' code uses in its place."""
    if statistic not in get_args(Statistic):
        raise ValueError(f"unknown statistic {statistic!r}: expected mean_square or var")
    magnitude = nu(W)
    if statistic == "var" and math.isfinite(magnitude):
        return float(W.detach().double().var(correction=0))
    return magnitude


def _basis_magnitude(n: int, m: int, r: int, basis: str, statistic: Statistic, seed: int) -> float:
    """ν[Φ_nΦ_mᵀ], or the variance of its entries: r/(nm) exactly for an orthonormal basis."""
    if statistic == "mean_square" and basis in ("dst", "orthogonal"):
        return r / (n * m)
    phi_n = draw_basis(basis, n, r, seed=seed, side=0, dtype=torch.float64)
    phi_m = draw_basis(basis, m, r, seed=seed, side=1, dtype=torch.float64)
    magnitude = nu_product(phi_n, phi_m.T)
    if statistic == "var":
        magnitude -= (float(phi_n.sum(0) @ phi_m.sum(0)) / (n * m)) ** 2
    return magnitude
