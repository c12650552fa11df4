"""Magnitudes of weights, products and updates; spectral concentration and gains.

The magnitude ν[X] = ‖X‖²_F / (number of entries) is the mean square of X (arXiv 2507.06558, §2.1):
not the variance, and not the norm. W is (n, m) = (out_features, in_features), A is (r, m), B is
(n, r), R = min(n, m).

Low-rank magnitudes cost O((n + m) r²): the n × m product is never formed.
"""

import math

import torch
from torch import Tensor

__all__ = [
    "MeanSquare",
    "log_gain",
    "nu",
    "nu_deviation",
    "nu_product",
    "nu_update",
    "spectral_concentration",
    "spectral_gain",
    "spectral_gains",
]

# Entries whose squares are summed in float32; and those of a narrower dtype that are widened at a
# time, to 4 MiB. Longer runs lose digits (`W.norm()` of 4096 × 4096 is off by 1e-3), smaller parts
# cost more calls, larger ones leave the cache.
_RUN, _PART = 1 << 10, 1 << 20


def nu(X: Tensor) -> float:
    """Magnitude ν[X] = ‖X‖²_F / X.numel(), read once, without a copy of X, summed in float64.

    Args:
        X: any shape, real floating dtype.

    Raises:
        ValueError: X is empty.
        TypeError: X is not floating point.

    Source: §2.1.
    """
    X = X.detach()
    if X.ndim == 2 and not X.is_contiguous():
        X = X.T  # a transposed weight (Conv1D): the same entries, contiguous
    mean = MeanSquare(X.numel(), X.dtype, X.device)
    mean.add(X.reshape(-1))
    return mean.value()


class MeanSquare:
    """ν of a tensor that comes in pieces, in the order in which it is stored.

    However it is cut, the result is bit for bit that of `nu`: the squares of every run of 1024
    entries are summed in float32, and the runs in float64.

    Args:
        entries: of the whole tensor.
        dtype: of the pieces.
        device: of the pieces.

    Raises:
        ValueError: no entries.
        TypeError: not a floating dtype.
    """

    RUN = _RUN

    def __init__(
        self, entries: int, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        if not dtype.is_floating_point:
            raise TypeError(f"expected a floating-point tensor, got {dtype}")
        if entries == 0:
            raise ValueError("the magnitude of a tensor without entries is undefined")
        self._entries, self._seen = entries, 0
        wide = dtype if dtype == torch.float64 else torch.float32
        self._norms = torch.empty(entries // _RUN, dtype=wide, device=device)
        # Float32 is read as it is; what is narrower is widened in memory that is used again: to ask
        # for it anew each time costs half as much as the reading.
        runs = 0 if dtype == wide else min(_PART, entries) // _RUN
        self._widened = torch.empty((runs, _RUN), dtype=wide, device=device)
        self._part = entries if dtype == wide else _PART
        self._tail = 0.0

    def add(self, piece: Tensor) -> None:
        """The next entries.

        Args:
            piece: (k,), k a multiple of RUN in all pieces but the last.

        Raises:
            ValueError: more than there should be, or a piece after one that was cut within a run.
        """
        if self._seen % _RUN or self._seen + len(piece) > self._entries:
            raise ValueError(
                f"expected pieces of a multiple of {_RUN} entries, {self._entries} in all; got "
                f"{len(piece)} after {self._seen}"
            )
        for part in piece.split(self._part):
            first, runs = self._seen // _RUN, len(part) // _RUN
            whole = part[: runs * _RUN].view(runs, _RUN)
            norms = self._norms[first : first + runs]
            if whole.dtype != norms.dtype:
                whole = self._widened[:runs].copy_(whole)
            torch.linalg.vector_norm(whole, dim=1, out=norms)
            if len(part) % _RUN:
                self._tail = float(part[runs * _RUN :].cpu().double().square().sum())
            self._seen += len(part)

    def value(self) -> float:
        """ν.

        Raises:
            ValueError: entries are missing.
        """
        if self._seen != self._entries:
            raise ValueError(f"expected {self._entries} entries, got {self._seen}")
        # NumPy's sum does not depend on the number of threads.
        norms = self._norms.cpu().numpy().astype("float64")
        return (float((norms * norms).sum()) + self._tail) / self._entries


def nu_product(B: Tensor, A: Tensor) -> float:
    """ν[BA] without forming BA: tr((BᵀB)(AAᵀ)) / (nm).

    Args:
        B: (n, r).
        A: (r, m).

    Raises:
        ValueError: shapes that do not multiply.
    """
    if B.ndim != 2 or A.ndim != 2 or B.shape[1] != A.shape[0]:
        raise ValueError(
            f"expected B (n, r) and A (r, m), got B {tuple(B.shape)} and A {tuple(A.shape)}"
        )
    B, A = _at_least_float32(B), _at_least_float32(A)
    inner = ((B.T @ B).double() * (A @ A.T).double()).sum()
    # A product that is zero up to rounding can come out a hair below zero.
    return max(float(inner), 0.0) / (B.shape[0] * A.shape[1])


def nu_deviation(dB: Tensor, dA: Tensor, B0: Tensor, A0: Tensor, scaling: float = 1.0) -> float:
    """ν[W_LoRA] from the deviations dB = B − B⁰ and dA = A − A⁰.

    W_LoRA = s(BA − B⁰A⁰) = s [dB | B⁰] · [A⁰ + dA ; dA], a product whose terms are all of the size
    of the update; expanding ‖BA − B⁰A⁰‖² instead subtracts equal digits.

    Args:
        dB: (n, r).
        dA: (r, m).
        B0: (n, r).
        A0: (r, m).
        scaling: s, PEFT's `lora_alpha / r` (or `/ sqrt(r)`).
    """
    dB, dA, B0, A0 = (_at_least_float32(x) for x in (dB, dA, B0, A0))
    left = torch.cat([dB, B0], dim=1)
    right = torch.cat([A0 + dA, dA], dim=0)
    return scaling**2 * nu_product(left, right)


def nu_update(B: Tensor, A: Tensor, B0: Tensor, A0: Tensor, scaling: float = 1.0) -> float:
    """ν[W_LoRA], W_LoRA = s(BA − B⁰A⁰), in O((n + m) r²) and without cancellation (eq. 1).

    Right for updates of 1e-5 of A⁰, B⁰ and below: see `nu_deviation`. The differences of stored
    factors are themselves exact in floating point when they are small.

    Args:
        B: (n, r).
        A: (r, m).
        B0: (n, r), B at the start.
        A0: (r, m), A at the start.
        scaling: s.

    Raises:
        ValueError: B and B0, or A and A0, of different shapes.
    """
    if B.shape != B0.shape or A.shape != A0.shape:
        raise ValueError(
            f"expected B, B0 and A, A0 of equal shapes, got B {tuple(B.shape)}, "
            f"B0 {tuple(B0.shape)}, A {tuple(A.shape)}, A0 {tuple(A0.shape)}"
        )
    B, A, B0, A0 = (_at_least_float32(x) for x in (B, A, B0, A0))
    return nu_deviation(B - B0, A - A0, B0, A0, scaling)


def spectral_concentration(W: Tensor, r: int) -> float:
    """ρ[r] = (mean of σ₁..σ_r)² / (mean of σ₁²..σ_R²), decreasing in r (eq. 8).

    Args:
        W: (n, m); its singular values are computed in float64, exactly: O(nm·min(n, m)).
        r: 1 ≤ r ≤ min(n, m).

    Raises:
        ValueError: r out of range, or W is all zero.
    """
    sigma = _singular_values(W, r)
    return float(sigma[:r].mean() ** 2 / (sigma**2).mean())


def spectral_gain(W: Tensor, r: int) -> float:
    """Q[r] = r ρ[r] / R = (σ₁ + … + σ_r)² / (r ‖W‖²_F), in [0, 1] (eq. 10).

    Args:
        W: (n, m).
        r: 1 ≤ r ≤ min(n, m).

    Raises:
        ValueError: r out of range, or W is all zero.
    """
    sigma = _singular_values(W, r)
    return float(sigma[:r].sum() ** 2 / (r * (sigma**2).sum()))


def spectral_gains(W: Tensor) -> Tensor:
    """Q[1], …, Q[R] (R,) of W (n, m), float64, by one decomposition (eq. 10).

    Raises:
        ValueError: W is all zero, or not a matrix.
    """
    sigma = _singular_values(W, 1)
    ranks = torch.arange(1, len(sigma) + 1, dtype=sigma.dtype, device=sigma.device)
    return sigma.cumsum(0) ** 2 / (ranks * (sigma**2).sum())


def log_gain(n: int, m: int, r: int) -> float:
    """Q[r] ≈ log r / log min(n, m), LoRAM's stand-in for the spectral gain (§3.2).

    Zero at r = 1 < min(n, m): LoRAM refuses it, since the adapter would never learn. At full rank,
    r = min(n, m), the gain is 1, also where min(n, m) = 1 and the formula reads 0/0.

    Raises:
        ValueError: r is not in [1, min(n, m)].
    """
    R = min(n, m)
    if not 1 <= r <= R:
        raise ValueError(f"expected 1 ≤ r ≤ min(n, m) = {R}, got r = {r}")
    return 1.0 if r == R else math.log(r) / math.log(R)


def _singular_values(W: Tensor, r: int) -> Tensor:
    """Singular values (R,) of W in float64, descending, after the checks both callers need."""
    _check_floating(W)
    if W.ndim != 2:
        raise ValueError(f"expected a matrix W (n, m), got shape {tuple(W.shape)}")
    if not 1 <= r <= min(W.shape):
        raise ValueError(f"expected 1 ≤ r ≤ min(n, m) = {min(W.shape)}, got r = {r}")
    sigma = torch.linalg.svdvals(W.detach().double())
    if sigma[0] == 0:
        raise ValueError("the spectrum of an all-zero weight has no concentration")
    return sigma


def _check_floating(X: Tensor) -> None:
    if not X.is_floating_point():
        raise TypeError(f"expected a floating-point tensor, got {X.dtype}")


def _at_least_float32(X: Tensor) -> Tensor:
    _check_floating(X)
    X = X.detach()
    return X if X.dtype in (torch.float32, torch.float64) else X.float()
