"""The decomposition that spectral schemes start from."""

import torch
from torch import Tensor

from loram.schemes._factors import Factors

__all__ = ["balanced", "check", "checked_svd"]


def check(X: Tensor, r: int) -> None:
    """Whether X is a matrix (n, m) that has r components.

    Raises:
        ValueError: not a matrix, r not in [1, R = min(n, m)], NaN or Inf in X.
        TypeError: X is not floating point.
    """
    if not X.is_floating_point():
        raise TypeError(f"expected a floating-point tensor, got {X.dtype}")
    if X.ndim != 2:
        raise ValueError(f"expected a matrix (n, m), got shape {tuple(X.shape)}")
    if not 1 <= r <= min(X.shape):
        raise ValueError(
            f"expected 1 ≤ r ≤ min(n, m) = {min(X.shape)} for shape {tuple(X.shape)}, got r = {r}"
        )
    if not torch.isfinite(X).all():
        raise ValueError(f"the matrix {tuple(X.shape)} has NaN or Inf entries")


def checked_svd(X: Tensor, r: int) -> tuple[Tensor, Tensor, Tensor]:
    """U (n, R), σ (R,) descending and Vᵀ (R, m) of X (n, m), in float64; errors as `check`.

    On X's device, or on the host for Apple's GPUs, which have no float64.
    """
    check(X, r)
    wide = X.detach()
    wide = (wide.cpu() if wide.device.type == "mps" else wide).double()
    U, S, Vh = torch.linalg.svd(wide, full_matrices=False)
    return U, S, Vh


def balanced(U: Tensor, S: Tensor, Vh: Tensor, *, like: Tensor) -> Factors:
    """B⁰ = U√S (n, r) and A⁰ = √S Vᵀ (r, m): U diag(S) Vᵀ, shared equally.

    Args:
        U: (n, r).
        S: (r,), not negative.
        Vh: (r, m).
        like: gives the device, and the dtype where it is wider than float32.
    """
    root = S.sqrt()
    dtype = torch.promote_types(like.dtype, torch.float32)
    return Factors(
        B0=(U * root).to(dtype).to(like.device), A0=(root[:, None] * Vh).to(dtype).to(like.device)
    )
