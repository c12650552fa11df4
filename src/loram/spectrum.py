"""The spectral gain Q[r] without a full SVD, between two bounds that enclose the exact value.

    >>> low, high = gain_bounds(W, 16)

Q[r] = (σ₁ + … + σ_r)² / (r ‖W‖²_F) needs r singular values (arXiv 2507.06558, eq. 10). A block
Krylov space V (m, k) holds them nearly. With T = WV, θ_i = σ_i(T)² and E = W(I − VVᵀ):

    below   σ_i(W) ≥ σ_i(T)                                                     (interlacing)
    above   σ_i(W)² ≤ θ_i + c                 since WWᵀ = TTᵀ + EEᵀ             (Weyl)
            σ_i(W)² ≤ λ_i(TᵀT + RᵀR/(θ_r − c)) for i ≤ r, if θ_r > c            (Schur complement)

with R = WᵀT − V TᵀT and any c ≥ ‖E‖². The last line: in the basis [V, V⊥], WᵀW is
[[TᵀT, Rᵀ], [R, C]] with ‖C‖ = ‖E‖², and for μ ≥ θ_r > c the number of its eigenvalues above μ is
that of TᵀT + Rᵀ(μ − C)⁻¹R, which is at most TᵀT + RᵀR/(θ_r − c); σ_r² ≥ θ_r. It is quadratic in the
residual, hence tight.

c comes from Lanczos on EᵀE from a random start. Its Ritz value is ≥ (1 − ε)‖E‖² but with a
probability of at most 1.648 √n exp(−√ε(2j − 1)) after j steps (Kuczyński and Woźniakowski, SIAM J.
Matrix Anal. Appl. 13(4), 1992, theorem 4); ε is chosen for 1e-6. All else is certain to rounding,
for which the bounds are widened.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["GainBounds", "gain_bounds", "rank_for"]

_OVERSAMPLE = 8  # columns of the Krylov space's blocks beyond r
_DEPTHS = (7, 12)  # powers of WᵀW in it; the second where the first leaves wide bounds
_WIDE = 1.01  # high over low
_LANCZOS = 24
_FAILURE = 1e-6
_ROUNDING = 2e-6  # of float32 products: of each singular value, relative to the first


class GainBounds(NamedTuple):
    """low ≤ Q[r] ≤ high; `low` is also the estimate, by far the nearer of the two."""

    low: float
    high: float


def gain_bounds(W: Tensor, r: int, *, seed: int = 0) -> GainBounds:
    """Bounds of Q[r] by a randomised block Krylov method, O(nm r) in float32.

    Args:
        W: (n, m), floating dtype.
        r: 1 ≤ r ≤ min(n, m).
        seed: of the random starts.

    Raises:
        ValueError: not a matrix, r out of range, W all zero or not finite.

    Source: Musco and Musco, arXiv 1504.05477, for the space; the module's docstring for the bounds.
    """
    if W.ndim != 2 or not 1 <= r <= min(W.shape):
        raise ValueError(
            f"expected a matrix W (n, m) and 1 ≤ r ≤ min(n, m), got {tuple(W.shape)} and r = {r}"
        )
    W = W.detach().float()
    W = W if W.shape[0] >= W.shape[1] else W.T  # (n, m) with m the smaller
    # Powers of tiny or huge weights would leave float32; the gain does not depend on the scale.
    largest = float(W.abs().amax())
    if not (0 < largest < math.inf):
        raise ValueError(f"expected a finite weight that is not zero, got a largest |w| {largest}")
    W = W / largest
    generator = torch.Generator().manual_seed(seed)
    total = float(torch.linalg.vector_norm(W, dtype=torch.float64)) ** 2
    bounds = GainBounds(0.0, 1.0)
    for depth in _DEPTHS:
        below, above = _sums(W, r, _krylov(W, r + _OVERSAMPLE, depth, generator), generator)
        bounds = GainBounds(below**2 / (r * total), min(above**2 / (r * total), 1.0))
        if bounds.high <= _WIDE * bounds.low:
            break
    return bounds


def rank_for(sigma: Tensor, share: float) -> int:
    """Smallest rank whose best approximation keeps this share of ‖·‖²_F; 0 for a zero matrix.

    Args:
        sigma: singular values (k,), descending.
        share: in (0, 1).
    """
    energy = sigma.double().square().cumsum(0)
    if not float(energy[-1]) > 0:
        return 0
    return int((energy < share * energy[-1]).sum()) + 1


def _sums(W: Tensor, r: int, V: Tensor, generator: torch.Generator) -> tuple[float, float]:
    """Lower and upper bound of σ₁ + … + σ_r, from an orthonormal V (m, k), k ≥ r."""
    T = W @ V
    gram = T.double().T @ T.double()
    theta = torch.linalg.eigvalsh(gram).flip(0)[:r].clamp_min(0)
    above = theta
    if V.shape[1] < W.shape[1]:
        c = _largest_outside(W, V, generator)
        above = theta + c
        gap = float(theta[-1]) - c
        if gap > 0:
            R = (W.T @ T).double() - V.double() @ gram
            tight = torch.linalg.eigvalsh(gram + R.T @ R / gap).flip(0)[:r]
            above = torch.minimum(above, tight.clamp_min(0))
    rounding = r * _ROUNDING * math.sqrt(float(theta[0]))
    low = max(float(theta.sqrt().sum()) - rounding, 0.0)
    return low, float(above.sqrt().sum()) + rounding


def _krylov(W: Tensor, width: int, depth: int, generator: torch.Generator) -> Tensor:
    """Orthonormal basis (m, k) of [Ω, (WᵀW)Ω, …, (WᵀW)^depth Ω] with Ω (m, width) random."""
    m = W.shape[1]
    start = torch.randn(m, min(width, m), generator=generator).to(W)
    block = V = torch.linalg.qr(start).Q
    for _ in range(depth):
        block = W.T @ (W @ block[:, : m - V.shape[1]])
        if block.shape[1] == 0:  # V spans everything
            break
        for _ in range(2):  # once loses orthogonality in float32
            block = torch.linalg.qr(block - V @ (V.T @ block)).Q
        V = torch.cat([V, block], dim=1)
    return torch.linalg.qr(V).Q


def _largest_outside(W: Tensor, V: Tensor, generator: torch.Generator) -> float:
    """c ≥ ‖W(I − VVᵀ)‖² but for a probability of `_FAILURE`, by Lanczos in the complement of V."""
    free = W.shape[1] - V.shape[1]
    steps = min(_LANCZOS, free)

    def outside(x: Tensor) -> Tensor:
        return x - V @ (V.T @ x)

    x = outside(torch.randn(W.shape[1], 1, generator=generator).to(W))
    X = (x / x.norm()).reshape(-1, 1)
    for _ in range(steps - 1):
        y = outside(W.T @ (W @ X[:, -1:]))
        for _ in range(2):
            y = y - X @ (X.T @ y)
        size = float(y.norm())
        if size < 1e-6 * float((W @ X[:, -1:]).norm()) ** 2:
            break  # the space is invariant
        X = torch.cat([X, outside(y / size)], dim=1)
    Y = (W @ X).double()
    ritz = float(torch.linalg.eigvalsh(Y.T @ Y)[-1])
    root = math.log(1.648 * math.sqrt(free) / _FAILURE) / (2 * steps - 1)
    # Few steps bound nothing, but then they span the whole complement and miss nothing.
    epsilon = 0.01 if steps == free else min(root**2, 0.9)
    return ritz / (1 - epsilon)
