"""The largest curvature of the loss in adapter coordinates, by Lanczos on Hessian-vector products.

Gradient descent at rate η is stable along a direction of curvature λ while η < 2/λ; λ_max therefore
bounds the learning rate of plain SGD. Adam's is preconditioned, so there it is only a hint.

Dear: the graph of one loss is kept, and each iteration is one more backward pass through it.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from loram.product import twice_differentiable

__all__ = ["Curvature", "largest_curvature"]


class Curvature(NamedTuple):
    """Ends of the Hessian's spectrum.

    Attributes:
        largest: λ_max, the largest eigenvalue; a lower bound of it before convergence.
        smallest: the smallest one, often negative; an upper bound of it.
        error: some eigenvalue is within this of `largest` (the norm of the residual).
        iterations: Hessian-vector products taken.
    """

    largest: float
    smallest: float
    error: float
    iterations: int


def largest_curvature(
    loss: Callable[[], Tensor],
    parameters: nn.Module | Iterable[Tensor],
    *,
    iterations: int = 30,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> Curvature:
    """λ_max of a loss in what trains, by Lanczos with full reorthogonalisation.

        >>> largest_curvature(lambda: model(**batch).loss, model)

    Attention runs by its plain formula meanwhile: the fused kernels are differentiable once. Use
    eval mode or no dropout, so that the loss is one function. Gradients (`.grad`) are left alone.

    Args:
        loss: computes the scalar loss on a fixed batch; called once.
        parameters: coordinates of the Hessian; of a model, those that train.
        iterations: at most, and at most the number of coordinates. So many vectors of that length
            are kept, in float32 or the parameters' float64.
        tolerance: stop once `error` is below this part of |λ_max|.
        seed: of the first vector.

    Raises:
        ValueError: nothing trains, the loss is not a finite scalar or does not depend on any of the
            parameters, or `iterations` is not positive.

    Source: Lanczos, J. Res. Nat. Bur. Standards 45 (1950); on Hessians of networks by products of
    Pearlmutter (Neural Computation 6, 1994).
    """
    if iterations < 1:
        raise ValueError(f"expected iterations ≥ 1, got {iterations}")
    given = parameters.parameters() if isinstance(parameters, nn.Module) else parameters
    trained = [p for p in given if p.requires_grad]
    if not trained:
        raise ValueError("none of the parameters requires a gradient: there is nothing to vary")
    with twice_differentiable(), sdpa_kernel(SDPBackend.MATH), torch.enable_grad():
        value = loss()
        if value.numel() != 1 or not math.isfinite(float(value.detach())):
            shown = float(value.detach()) if value.numel() == 1 else f"shape {tuple(value.shape)}"
            raise ValueError(f"expected a finite scalar loss, got {shown}")
        if not value.requires_grad:
            raise ValueError("the loss does not depend on any of the parameters")
        slopes = torch.autograd.grad(value, trained, create_graph=True, materialize_grads=True)

    def product(v: Tensor) -> Tensor:
        return _times_hessian(trained, slopes, v)

    return _lanczos(product, trained, iterations, tolerance, seed)


def _times_hessian(parameters: Sequence[Tensor], slopes: Sequence[Tensor], v: Tensor) -> Tensor:
    """Hv (coordinates,) as the gradient of gᵀv."""
    parts = v.split([p.numel() for p in parameters])
    directed = [
        (g, part.view(g.shape).to(g.dtype))
        for g, part in zip(slopes, parts, strict=True)
        if g.requires_grad  # a gradient that is constant has no curvature
    ]
    if not directed:
        return torch.zeros_like(v)
    outputs, along = zip(*directed, strict=True)
    found = torch.autograd.grad(
        outputs, parameters, grad_outputs=along, retain_graph=True, materialize_grads=True
    )
    return torch.cat([h.detach().reshape(-1).to(v.dtype) for h in found])


def _lanczos(
    product: Callable[[Tensor], Tensor],
    like: Sequence[Tensor],
    iterations: int,
    tolerance: float,
    seed: int,
) -> Curvature:
    """Ritz values of the Krylov space of a symmetric product."""
    dtype = torch.promote_types(like[0].dtype, torch.float32)
    size = sum(p.numel() for p in like)
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(size, generator=generator, dtype=torch.float64).to(like[0].device, dtype)
    v /= v.norm()
    kept: list[Tensor] = []
    diagonal: list[float] = []
    beside: list[float] = []
    found = Curvature(0.0, 0.0, 0.0, 0)
    for done in range(1, min(iterations, size) + 1):
        kept.append(v)
        w = product(v)
        diagonal.append(float(w.double() @ v.double()))
        for _ in range(2):  # twice is enough (Kahan and Parlett)
            for u in kept:
                w = w - (u @ w) * u
        length = float(w.norm())
        T = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
        if beside:
            off = torch.tensor(beside, dtype=torch.float64)
            T = T + torch.diag(off, 1) + torch.diag(off, -1)
        if not torch.isfinite(T).all():
            raise ValueError("the Hessian is not finite: expected a loss with finite curvature")
        ritz, vectors = torch.linalg.eigh(T)
        error = length * abs(float(vectors[-1, -1]))
        found = Curvature(float(ritz[-1]), float(ritz[0]), error, done)
        scale = float(ritz.abs().max())
        # A remainder that is rounding: the Krylov space is complete.
        if error <= tolerance * abs(found.largest) or length <= scale * torch.finfo(dtype).eps:
            break
        beside.append(length)
        v = w / length
    return found
