"""What a LoRAM adapter does in PEFT's forward, merge and unmerge: one `LoraVariant` a form and op.

PEFT consults a layer's variant in all of these in place of its own sBAx.
"""

from typing import Any

from peft.tuners.lora.layer import LoraVariant
from torch import Tensor

from loram.peft.factors import LINEAR, Place
from loram.peft.record import record_of
from loram.peft.sharding import add_update_by_modules, read_alone
from loram.product import Anchor, add_update

__all__ = ["DeviationVariant", "LoramVariant", "ResidualVariant"]


class LoramVariant(LoraVariant):
    """An update that is added to the base: how it merges is the same in both forms."""

    @staticmethod
    def init(module: Any, adapter_name: str = "", **kwargs: Any) -> None:
        """Called by PEFT when the factors are in place: nothing is left to do."""

    @staticmethod
    def merge_safe(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """A copy of W with the update added."""
        delta = module.get_delta_weight(active_adapter)
        return orig_weight + delta.to(orig_weight.dtype)

    @staticmethod
    def merge_unsafe(module: Any, active_adapter: str, orig_weight: Tensor) -> None:
        """The update added to W in place."""
        orig_weight.data += module.get_delta_weight(active_adapter)

    @staticmethod
    def unmerge(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """W with the update taken out again, to rounding."""
        delta = module.get_delta_weight(active_adapter)
        return orig_weight.data - delta.to(orig_weight.dtype)


class DeviationVariant(LoramVariant):
    """y + s(dB(A⁰ + dA) + B⁰dA)x over an untouched base, on layers that multiply by a matrix."""

    @staticmethod
    def forward(
        module: Any, active_adapter: str, x: Tensor, result: Tensor, **kwargs: Any
    ) -> Tensor:
        """The base's output with the update added; see `loram.product`."""
        x = module.lora_dropout[active_adapter](x)
        if read_alone(module.lora_A[active_adapter]):
            record = record_of(module, active_adapter)
            return add_update_by_modules(module, active_adapter, x, result, record)
        dA, dB, anchor = parts_of(LINEAR, module, active_adapter)
        return add_update(_own(module, result), x, dB, dA, module.scaling[active_adapter], anchor)


class ResidualVariant(LoramVariant):
    """W′x + sBAx, W′ = W − sB⁰A⁰: plain LoRA's product, over the base that was rewritten."""

    @staticmethod
    def forward(
        module: Any, active_adapter: str, x: Tensor, result: Tensor, **kwargs: Any
    ) -> Tensor:
        """The base's output with the update added; see `loram.product`."""
        x = module.lora_dropout[active_adapter](x)
        if read_alone(module.lora_A[active_adapter]):
            return add_update_by_modules(module, active_adapter, x, result)
        A, B = LINEAR.matrices(module, active_adapter)
        return add_update(_own(module, result), x, B, A, module.scaling[active_adapter])


def parts_of(place: Place, module: Any, adapter: str) -> tuple[Tensor, Tensor, Anchor]:
    """dA (r, m), dB (n, r) and the anchor that they deviate from."""
    dA, dB = place.matrices(module, adapter)
    record = record_of(module, adapter)
    assert record is not None
    return dA, dB, record.anchor(dB.shape[-2], dA.shape[-1], dA.shape[-2], like=dA)


def _own(module: Any, result: Tensor) -> Tensor:
    """The base's output to write into: a copy if somebody's hook on the base may have kept it."""
    hooks = module.get_base_layer()._forward_hooks.values()
    kept = any(not getattr(hook, "keeps_no_output", False) for hook in hooks)
    return result.clone() if kept else result
