"""Intruder dimensions: what an update puts among the leading singular vectors of a weight.

A left singular vector of W + ΔW, among its first k, intrudes if its largest cosine with any left
singular vector of W is below ε (arXiv 2410.21228, "LoRA vs full fine-tuning: an illusion of
equivalence"): a direction that training brought in and made strong.

Dear: two singular value decompositions of an n × m matrix a layer.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from loram.probe.adapter import MagnitudeProbe

__all__ = ["Intruders", "intruders", "layer_intruders"]


class Intruders(NamedTuple):
    """Of one layer.

    Attributes:
        intruding: how many of the first k singular vectors of W + ΔW intrude.
        cosines: of each of them, in order, the largest |cosine| with a singular vector of W.
    """

    intruding: int
    cosines: tuple[float, ...]


def intruders(probe: MagnitudeProbe, *, k: int = 10, epsilon: float = 0.5) -> dict[str, Intruders]:
    """Intruders of every layer of a probe's adapter now, against its weight at the start.

    Args:
        probe: made at the start of training (for LoRAM at any time).
        k: leading singular vectors looked at.
        epsilon: largest cosine of an intruder, exclusive.

    Raises:
        ValueError: as `layer_intruders`, with the layer's name.
    """
    found: dict[str, Intruders] = {}
    for name, W, update in probe.updates():
        try:
            found[name] = layer_intruders(W, update, k=k, epsilon=epsilon)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return found


@torch.no_grad()
def layer_intruders(W: Tensor, update: Tensor, *, k: int = 10, epsilon: float = 0.5) -> Intruders:
    """Intruders that an update brings into one weight.

    Args:
        W: (n, m). Where its singular values are equal its vectors are arbitrary, and so is what
            intrudes.
        update: ΔW (n, m).
        k: leading left singular vectors looked at; at most min(n, m) are there.
        epsilon: in (0, 1].

    Raises:
        ValueError: shapes that differ, k or ε out of range, or values that are not finite.
    """
    if W.ndim != 2 or W.shape != update.shape:
        raise ValueError(
            f"expected W and its update (n, m), got {tuple(W.shape)} and {tuple(update.shape)}"
        )
    if k < 1 or not 0 < epsilon <= 1:
        raise ValueError(f"expected k ≥ 1 and 0 < epsilon ≤ 1, got k={k}, epsilon={epsilon}")
    dtype = torch.promote_types(torch.promote_types(W.dtype, update.dtype), torch.float32)
    W, update = W.to(dtype), update.to(dtype)
    if not (W.isfinite().all() and update.isfinite().all()):
        raise ValueError("expected finite values in W and its update: training has diverged")
    before = torch.linalg.svd(W, full_matrices=False).U
    after = torch.linalg.svd(W + update, full_matrices=False).U[:, :k]
    cosines = (after.T @ before).abs().amax(1)
    return Intruders(int((cosines < epsilon).sum()), tuple(cosines.tolist()))
