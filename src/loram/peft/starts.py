"""Where an adapter starts, as the predictions of `loram.dynamics` take it."""

import torch
from torch import Tensor, nn

from loram.dynamics import Start
from loram.peft.probing import families

__all__ = ["starts"]

# A Gram matrix counts as a multiple of the identity up to this part of its diagonal: float32
# bases are there at 1e-6, the nearest random factors of use (r = 2, m = 10⁵) at 1e-2.
_ORTHONORMAL = 1e-3


@torch.no_grad()
def starts(model: nn.Module, adapter: str | None = None) -> dict[str, Start]:
    """Sizes, rank, scaling, ν[A⁰] and ν[B⁰] of an adapter's layers, by name.

    The factors' shape is read too: orthonormal where the rows of A⁰ and the columns of B⁰ are, up
    to one scale each and leaving out a factor that is zero; else it is taken for Gaussian.

    Args:
        model: with the adapter, of any method; but for LoRAM's, before its first step.
        adapter: its name; the active one by default.

    Raises:
        ValueError: the model has no such adapter.
    """
    found: dict[str, Start] = {}
    for family in families(model, adapter):
        start, scaling = family.start(), family.scaling().tolist()
        scale = start.scale[:, None, None].to(start.A.dtype)
        A, B = scale * start.A, scale * start.B  # (layers, r, m), (layers, n, r)
        nu_A, nu_B = A.square().mean((1, 2)).tolist(), B.square().mean((1, 2)).tolist()
        scaled = _scaled_identity(A @ A.mT) & _scaled_identity(B.mT @ B)
        for i, name in enumerate(family.names):
            found[name] = Start(
                n=B.shape[1],
                m=A.shape[2],
                r=A.shape[1],
                nu_A=nu_A[i],
                nu_B=nu_B[i],
                scaling=scaling[i],
                shape="orthonormal" if scaled[i] else "gaussian",
            )
    return found


def _scaled_identity(gram: Tensor) -> Tensor:
    """Which of the Gram matrices (layers, r, r) are multiples of the identity, zero included."""
    size = gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    off = gram - size * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    return off.abs().amax((1, 2)) <= _ORTHONORMAL * size[:, 0, 0]
