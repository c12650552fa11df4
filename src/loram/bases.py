"""Bases of LoRAM's factors: the first r columns of an n × n basis, deterministic or random.

    >>> dst(4096, 16)                                   # the paper's: no storage, no seed
    >>> orthogonal(4096, 16, generator=stream(seed=7))

Source: "The Primacy of Magnitude in Low-Rank Adaptation" (arXiv 2507.06558), eq. 12 for the DST;
its ablation (Table 4) for the others. All but the ETF are *nested*: column j does not depend on r.

Random bases draw raw Philox bits through NumPy, whose bit generators are stable across versions
(torch's streams and every LAPACK's QR are not), so that a seed names the same basis for ever.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["BASES", "Basis", "basis", "dst", "etf", "gaussian", "orthogonal", "stream"]


def dst(
    n: int, r: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
) -> Tensor:
    """First r columns of the orthogonal DST-I matrix, Φ[i, j] = √(2/(n+1)) sin((i+1)(j+1)π/(n+1)).

    Exact: the integer (i+1)(j+1) is reduced modulo the period 2(n+1) before any rounding, and the
    sine is looked up in a float64 table of one quadrant. `sin` of the float32 product instead loses
    digits as i·j grows.

    Args:
        n: width of the basis, ≥ 1.
        r: number of columns, 1 ≤ r ≤ n.
        dtype: of the result; each entry is the float64 value rounded once.
        device: of the result.

    Returns:
        Φ (n, r), with ΦᵀΦ = I and ν[Φ] = 1/n.

    Raises:
        ValueError: r is not in [1, n].

    Source: arXiv 2507.06558, eq. 12.
    """
    _check_shape(n, r)
    period = 2 * (n + 1)
    # One quadrant, reflected: sin((n+1)π/(n+1)) is then 0 exactly, not 1e-16.
    k = np.arange(period, dtype=np.int64)
    half = np.minimum(k % (n + 1), (n + 1) - k % (n + 1))
    table = np.sin(half * (np.pi / (n + 1))) * np.sqrt(2.0 / (n + 1))
    table[n + 1 :] *= -1.0
    rows = np.arange(1, n + 1, dtype=np.int64)[:, None]
    columns = np.arange(1, r + 1, dtype=np.int64)[None, :]
    return torch.from_numpy(table[(rows * columns) % period]).to(device=device, dtype=dtype)


def stream(seed: int, *, side: int = 0) -> np.random.Philox:
    """The bit stream a random basis is drawn from: Philox keyed by (seed, side).

    Args:
        seed: names the stream, 0 ≤ seed < 2³¹.
        side: 0 for the output basis Φ_n (of B), 1 for the input basis Φ_m (of A), so that the two
            differ when n = m.
    """
    return np.random.Philox(key=np.array([seed, side], dtype=np.uint64))


def gaussian(
    n: int,
    r: int,
    *,
    generator: np.random.Philox,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """r columns of independent N(0, 1/n) entries, so that E ν[Φ] = 1/n as for an orthonormal basis.

    Args:
        n: width of the basis, ≥ 1.
        r: number of columns, 1 ≤ r ≤ n.
        generator: bit stream, e.g. `stream(seed)`; n·r normals are drawn from it, column by column.
        dtype: of the result.
        device: of the result.

    Returns:
        Φ (n, r).

    Raises:
        ValueError: r is not in [1, n].
    """
    _check_shape(n, r)
    columns = _normals(generator, n * r).reshape(r, n) / np.sqrt(n)
    return torch.from_numpy(columns.T.copy()).to(device=device, dtype=dtype)


def orthogonal(
    n: int,
    r: int,
    *,
    generator: np.random.Philox,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """r orthonormal columns: Gaussian columns, orthogonalised one after the other in float64.

    Gram–Schmidt with one re-orthogonalisation, and every column keeps the direction of its Gaussian
    draw: the sign is fixed and column j never depends on r, unlike a library's QR.

    Args:
        n: width of the basis, ≥ 1.
        r: number of columns, 1 ≤ r ≤ n.
        generator: bit stream, e.g. `stream(seed)`.
        dtype: of the result.
        device: of the result.

    Returns:
        Φ (n, r), with ΦᵀΦ = I.

    Raises:
        ValueError: r is not in [1, n].
    """
    _check_shape(n, r)
    q = _normals(generator, n * r).reshape(r, n)
    for j in range(r):
        for _ in range(2):  # twice is enough (Giraud, Langou, Rozložník 2005)
            q[j] -= (q[:j] @ q[j]) @ q[:j]
        q[j] /= np.linalg.norm(q[j])
    return torch.from_numpy(q.T.copy()).to(device=device, dtype=dtype)


def etf(
    n: int,
    r: int,
    *,
    generator: np.random.Philox,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Simplex equiangular tight frame: r unit columns, each pair at cosine −1/(r − 1).

    Φ = √(r/(r−1)) U (I − 11ᵀ/r) with U orthonormal (n, r). Its columns depend on r (not nested) and
    sum to zero, so its rank is r − 1.

    Args:
        n: width of the basis, ≥ 2.
        r: number of columns, 2 ≤ r ≤ n.
        generator: bit stream, e.g. `stream(seed)`.
        dtype: of the result.
        device: of the result.

    Returns:
        Φ (n, r).

    Raises:
        ValueError: r is not in [2, n].
    """
    _check_shape(n, r)
    if r < 2:
        raise ValueError(
            "an ETF of 1 column does not exist: expected r ≥ 2, got r = 1; use basis=dst"
        )
    u = orthogonal(n, r, generator=generator, dtype=torch.float64)
    frame = (u - u.mean(dim=1, keepdim=True)) * (r / (r - 1)) ** 0.5
    return frame.to(device=device, dtype=dtype)


@dataclass(frozen=True, slots=True)
class Basis:
    """A row of the table of bases.

    Attributes:
        code: number in checkpoints; never reused.
        nested: column j does not depend on r, so a factor may be cut or padded.
        draw: (n, r, generator, dtype, device) → Φ (n, r).
    """

    code: int
    nested: bool
    draw: Callable[[int, int, np.random.Philox, torch.dtype, torch.device | str | None], Tensor]


BASES: dict[str, Basis] = {
    "dst": Basis(0, True, lambda n, r, g, t, d: dst(n, r, dtype=t, device=d)),
    "orthogonal": Basis(
        1, True, lambda n, r, g, t, d: orthogonal(n, r, generator=g, dtype=t, device=d)
    ),
    "gaussian": Basis(
        2, True, lambda n, r, g, t, d: gaussian(n, r, generator=g, dtype=t, device=d)
    ),
    "etf": Basis(3, False, lambda n, r, g, t, d: etf(n, r, generator=g, dtype=t, device=d)),
}


def basis(
    name: str,
    n: int,
    r: int,
    *,
    seed: int = 0,
    side: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Φ (n, r) of the basis called `name`; `seed` and `side` as in `stream`.

    Raises:
        ValueError: an unknown name, or r out of range.
    """
    if name not in BASES:
        raise ValueError(f"unknown basis {name!r}: expected one of {', '.join(BASES)}")
    return BASES[name].draw(n, r, stream(seed, side=side), dtype, device)


def _check_shape(n: int, r: int) -> None:
    if not 1 <= r <= n:
        raise ValueError(f"a basis of width {n} has 1 to {n} columns, got r = {r}")


def _normals(generator: np.random.Philox, size: int) -> np.ndarray:
    """`size` standard normals by Box–Muller from raw 64-bit draws, two draws a pair.

    Not `Generator.standard_normal`: NumPy keeps the bits of a bit generator stable across versions,
    but not what its distributions make of them.
    """
    pairs = (size + 1) // 2
    bits = generator.random_raw(2 * pairs).reshape(pairs, 2) >> np.uint64(11)  # 53 bits
    uniform = (bits.astype(np.float64) + 0.5) * 2.0**-53  # in (0, 1), never 0
    radius = np.sqrt(-2.0 * np.log(uniform[:, 0]))
    angle = 2.0 * np.pi * uniform[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:size]
