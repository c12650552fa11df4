"""The low-rank product of a training step, y + s(BA − B⁰A⁰)x, fused.

With B⁰A⁰ = 0 this is plain LoRA; with an anchor it is the deviation form,

    y + s · [dB | B⁰] · [A⁰ + dA ; dA] · x,

one product of rank 2r in which nothing cancels: it is exactly y while dA = dB = 0, in every dtype.
The autograd function computes in y's dtype (the base's), adds into y, and keeps for the backward
pass only the layer's own input, by reference, and the r columns (A⁰ + dA)x:

    ∇dB = s G ((A⁰ + dA)x)ᵀ        ∇dA = s (B⁰ + dB)ᵀ G xᵀ        (arXiv 2507.06558, eq. 2)

Written with autograd operations instead, the same product keeps float32 copies of the activations
when the factors are float32 over a bfloat16 base, PEFT's default.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Anchor", "add_update", "anchored", "twice_differentiable"]

# How many `twice_differentiable` blocks are open. Of the process, not of a thread: autograd runs
# what is checkpointed again in threads of its own.
_plain = 0


@contextmanager
def twice_differentiable() -> Generator[None]:
    """In the block `add_update` is made of autograd's own operations, so gradients have gradients.

    Slower, and it keeps more for the backward pass: for Hessian-vector products, not for training.
    What counts is the forward pass. It holds for all threads of the process.
    """
    global _plain
    _plain += 1
    try:
        yield
    finally:
        _plain -= 1


class Anchor(NamedTuple):
    """The point that factors deviate from, A⁰ = β Φ_mᵀ and B⁰ = β Φ_n.

    Attributes:
        beta: 0-d, on the factors' device. A tensor, so that no step waits for the device, and so
            that loading a checkpoint in place is seen.
        phi_out: Φ_n (n, r).
        phi_in: Φ_m (m, r).
    """

    beta: Tensor
    phi_out: Tensor
    phi_in: Tensor

    @property
    def B0(self) -> Tensor:
        """B⁰ (n, r), in the basis's dtype."""
        return self.beta.to(self.phi_out.dtype) * self.phi_out

    @property
    def A0(self) -> Tensor:
        """A⁰ (r, m), in the basis's dtype."""
        return self.beta.to(self.phi_in.dtype) * self.phi_in.T


def anchored(dB: Tensor, dA: Tensor, anchor: Anchor | None) -> tuple[Tensor, Tensor]:
    """The factors of BA − B⁰A⁰: [dB | B⁰] (n, 2r) and [A⁰ + dA ; dA] (2r, m).

    Args:
        dB: (..., n, r), or B itself if there is no anchor. Leading axes are a stack's, which has
            one anchor.
        dA: (..., r, m), or A itself.
        anchor: None for plain LoRA, whose factors are returned as they are.
    """
    if anchor is None:
        return dB, dA
    beta = anchor.beta.to(anchor.phi_in.dtype)
    left = torch.cat([dB, anchor.B0.to(dB.dtype).expand_as(dB)], dim=-1)
    A = torch.addcmul(dA.to(beta.dtype), beta, anchor.phi_in.T).to(dA.dtype)
    return left, torch.cat([A, dA], dim=-2)


def add_update(
    y: Tensor,
    x: Tensor,
    dB: Tensor,
    dA: Tensor,
    scaling: float | Tensor,
    anchor: Anchor | None = None,
) -> Tensor:
    """y + s(BA − B⁰A⁰)x, in y's dtype. May write into y.

    Args:
        y: (..., n), the frozen layer's own output; not to be used afterwards.
        x: (..., m), what the adapter sees of the layer's input.
        dB: (n, r), B − B⁰ (B itself without an anchor).
        dA: (r, m), A − A⁰.
        scaling: s, a number or a 0-d tensor.
        anchor: B⁰, A⁰; None for plain LoRA.

    Returns:
        (..., n). Gradients of x, dB, dA have their dtypes. Differentiable once, unless traced by
        `torch.compile` or in a `twice_differentiable` block.
    """
    # The compiler fuses better than we do, and needs no copy.
    if _plain or torch.compiler.is_compiling():
        left, right = anchored(dB, dA, anchor)
        update = F.linear(F.linear(x.to(y.dtype), right.to(y.dtype)), (left * scaling).to(y.dtype))
        return y + update
    if not torch.is_grad_enabled() and x.shape[:-1].numel() <= dA.shape[0]:
        return _add_to_few(y, x, dB, dA, scaling, anchor)
    return _AddUpdate.apply(y, x, dB, dA, scaling, anchor)  # pyright: ignore[reportReturnType]


def _add_to_few(
    y: Tensor,
    x: Tensor,
    dB: Tensor,
    dA: Tensor,
    scaling: float | Tensor,
    anchor: Anchor | None,
) -> Tensor:
    """The product of few tokens where no gradient is wanted, as in a generation's step.

    To stack and round the factors would cost more than to multiply by each, in its own dtype.
    """
    inputs = x.reshape(-1, x.shape[-1]).to(dA.dtype)
    inner = h = inputs @ dA.T
    if anchor is not None:
        phi = anchor.phi_in
        h = torch.addcmul(h.to(phi.dtype), anchor.beta.to(phi.dtype), inputs.to(phi.dtype) @ phi)
    update = h.to(dB.dtype) @ dB.T
    if anchor is not None:
        phi = anchor.phi_out
        update = update + (anchor.beta.to(phi.dtype) * inner.to(phi.dtype)) @ phi.T
    return y.add_((update * scaling).to(y.dtype).view_as(y))


class _AddUpdate(torch.autograd.Function):
    """`add_update` with a hand-written backward pass; see the module's docstring."""

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        x: Tensor,
        dB: Tensor,
        dA: Tensor,
        scaling: float | Tensor,
        anchor: Anchor | None,
    ) -> Tensor:
        left, right = _in_dtype(dB, dA, scaling, anchor, y.dtype)
        inputs = x.to(y.dtype).reshape(-1, x.shape[-1])
        h = inputs @ right.T
        y.view(-1, y.shape[-1]).addmm_(h, left.T)
        ctx.mark_dirty(y)
        # A copy when there is an anchor: a view would keep all 2r columns alive.
        ctx.save_for_backward(x, dB, dA, h[:, : dA.shape[0]].contiguous())
        ctx.scaling, ctx.anchor = scaling, anchor
        return y

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, dB, dA, h = ctx.saved_tensors
        left, right = _in_dtype(dB, dA, ctx.scaling, ctx.anchor, grad.dtype)
        r = dA.shape[0]
        G = grad.reshape(-1, grad.shape[-1])
        K = G @ left  # (tokens, r or 2r), s included
        grad_x = grad_dB = grad_dA = None
        if ctx.needs_input_grad[1]:
            grad_x = (K @ right).to(x.dtype).view(x.shape)
        if ctx.needs_input_grad[2]:
            grad_dB = (G.T @ h).to(dB.dtype) * ctx.scaling
        if ctx.needs_input_grad[3]:
            k = K if ctx.anchor is None else K[:, :r] + K[:, r:]
            grad_dA = (k.T @ x.to(k.dtype).reshape(-1, x.shape[-1])).to(dA.dtype)
        return grad, grad_x, grad_dB, grad_dA, None, None


def _in_dtype(
    dB: Tensor, dA: Tensor, scaling: float | Tensor, anchor: Anchor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """`anchored` factors in the compute dtype, s folded into the left one."""
    left, right = anchored(dB, dA, anchor)
    return (left * scaling).to(dtype), right.to(dtype)
