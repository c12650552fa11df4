"""The residual form's rewritten base, W′ = W − sB⁰A⁰ (arXiv 2507.06558, Algorithm 1).

What was taken out is written down on the base layer itself, so that it is given back on unload and
delete, found by the next injection, and added to the output whenever the adapter is not in effect:
a disabled residual adapter is the pretrained model, to rounding, unlike PEFT's PiSSA.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from loram.peft.errors import LoramError
from loram.peft.layers import LoraModule, base_weight
from loram.peft.record import BasisRecord
from loram.peft.spec import DEVIATION

__all__ = ["Removed", "forget", "give_back", "removed_from", "take_out"]

_ATTRIBUTE = "_loram_removed"
_ENTRIES = 1 << 21  # of a block: widened, changed and narrowed while it is in a cache


@dataclass
class Removed:
    """What the base of one layer lacks.

    Attributes:
        adapter: whose B⁰A⁰ it is.
        layer: the LoRA layer around the base.
        record: its β, basis and seed. Loading another adapter's comes through `take_out` first.
        rank: r.
        scaling: s when it was taken out.
        kept: W itself, if `keep_base`.
    """

    keeps_no_output: ClassVar[bool] = True  # as a hook, so that others may write into the output

    adapter: str
    layer: LoraModule
    record: BasisRecord
    rank: int
    scaling: float
    kept: Tensor | None
    hook: RemovableHandle = field(init=False)

    def factors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """sB⁰ (n, r) and A⁰ (r, m), on `like`'s device, in float32 or its float64."""
        n, m = self.layer.out_features, self.layer.in_features  # the weight may be in shards
        anchor = self.record.anchor(n, m, self.rank, like=like)
        return self.scaling * anchor.B0, anchor.A0

    @property
    def in_effect(self) -> bool:
        """Whether the adapter's sBA is being added to W′, in the forward pass or by a merge."""
        if self.layer.disable_adapters:
            return False
        if self.layer.merged:
            return self.adapter in self.layer.merged_adapters
        return self.adapter in self.layer.active_adapters

    def check_scaling(self) -> None:
        """Refuse a scaling other than the one at which sB⁰A⁰ was taken out.

        Raises:
            LoramError: it has changed.
        """
        now = float(self.layer.scaling[self.adapter])
        if abs(now - self.scaling) > 1e-6 * abs(self.scaling):  # s may be held in float32
            raise LoramError(
                f"the scaling of a loram_residual adapter can't change to {now:g}: sB⁰A⁰ was taken "
                f"out of the base at s = {self.scaling:g}. Use init_lora_weights={DEVIATION!r}"
            )

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """Forward hook of the base: W′x + sB⁰A⁰x = Wx while the adapter is not in effect."""
        self.check_scaling()
        if self.in_effect:
            return output
        left, right = self.factors(like=output)
        x = cast(Tensor, args[0])
        return output + (x.to(right.dtype) @ right.T @ left.T).to(output.dtype)


def removed_from(layer: nn.Module) -> Removed | None:
    """What was taken out of the base of a LoRA layer, or of a base layer; None if nothing."""
    base = layer.get_base_layer() if isinstance(layer, LoraLayer) else layer
    return getattr(base, _ATTRIBUTE, None)


def take_out(layer: LoraModule, adapter: str, record: BasisRecord, *, keep_base: bool) -> None:
    """W ← W − sB⁰A⁰, computed in float32 and rounded once; first gives back what was out before.

    Does nothing if just this is out already, as when a checkpoint is loaded into the adapter that
    wrote it.
    """
    rank, scaling = layer.r[adapter], float(layer.scaling[adapter])
    before = removed_from(layer)
    if before is not None:
        same = torch.equal(before.record.weight, record.weight.to(before.record.weight.device))
        if same and (before.rank, before.scaling) == (rank, scaling):
            return
        give_back(layer)
    weight = base_weight(layer)
    kept = weight.detach().clone() if keep_base else None
    removed = Removed(adapter, layer, record.to(weight.device), rank, scaling, kept)
    left, right = removed.factors(like=weight)
    _add(weight, -left, right)
    base = layer.get_base_layer()
    removed.hook = base.register_forward_hook(removed)
    setattr(base, _ATTRIBUTE, removed)


def give_back(layer: LoraModule) -> None:
    """W restored: to rounding, or bit for bit if it was kept. Nothing if nothing is out."""
    removed = removed_from(layer)
    if removed is None:
        return
    weight = base_weight(layer)
    if removed.kept is not None and not layer.merged:
        weight.data.copy_(removed.kept)
    else:
        left, right = removed.factors(like=weight)
        _add(weight, left, right)
    forget(layer)


def forget(layer: LoraModule) -> None:
    """Drop the note of what is out: the adapter was merged, so sBA has taken its place for good."""
    removed = removed_from(layer)
    if removed is not None:
        removed.hook.remove()
        delattr(layer.get_base_layer(), _ATTRIBUTE)


@torch.no_grad()
def _add(weight: Tensor, left: Tensor, right: Tensor) -> None:
    """weight += left @ right in place, in the factors' dtype; a narrower weight by blocks."""
    data = weight.data
    if not data.is_contiguous() and data.T.is_contiguous():  # Conv1D: by the rows that are stored
        data, left, right = data.T, right.T, left.T
    if data.dtype == left.dtype:
        data.addmm_(left, right)
        return
    rows = max(1, _ENTRIES // data.shape[1])
    # One buffer: fresh memory for each block costs more.
    wide = torch.empty_like(data[:rows], dtype=left.dtype)
    for block, part in zip(data.split(rows), left.split(rows), strict=True):
        block.copy_(wide[: len(block)].copy_(block).addmm_(part, right))
