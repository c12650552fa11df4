"""What a LoRAM adapter does in PEFT's forward, merge and unmerge: one `LoraVariant` a form.

PEFT consults a layer's variant in all of these in place of its own sBAx.
"""

from typing import Any

from peft.tuners.lora.layer import LoraVariant
from torch import Tensor

from loram.peft.layers import factor_weights, record_of
from loram.peft.residual import Removed
from loram.peft.spec import LoramInit
from loram.product import add_update

__all__ = ["DeviationVariant", "LoramVariant", "ResidualVariant", "variant_for"]


class LoramVariant(LoraVariant):
    """An update that is added to the base: how it merges is the same in both forms."""

    @staticmethod
    def init(module: Any, adapter_name: str, **kwargs: Any) -> None:
        """Called by PEFT when the factors are in place."""
        # The product reads x in the base's dtype: PEFT's copy of it in the factors' would be waste.
        module.cast_input_dtype_enabled = not all(
            isinstance(module.lora_variant.get(name), LoramVariant) for name in module.lora_A
        )

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
    """y + s(dB(A⁰ + dA) + B⁰dA)x over an untouched base."""

    @staticmethod
    def forward(
        module: Any, active_adapter: str, x: Tensor, result: Tensor, **kwargs: Any
    ) -> Tensor:
        """The base's output with the update added; see `loram.product`."""
        dA, dB = factor_weights(module, active_adapter)
        record = record_of(module, active_adapter)
        assert record is not None
        anchor = record.anchor(dB.shape[0], dA.shape[1], dA.shape[0], like=dA)
        x = module.lora_dropout[active_adapter](x)
        return add_update(_own(module, result), x, dB, dA, module.scaling[active_adapter], anchor)


class ResidualVariant(LoramVariant):
    """W′x + sBAx, W′ = W − sB⁰A⁰: plain LoRA's product, over the base that was rewritten."""

    @staticmethod
    def forward(
        module: Any, active_adapter: str, x: Tensor, result: Tensor, **kwargs: Any
    ) -> Tensor:
        """The base's output with the update added; see `loram.product`."""
        A, B = factor_weights(module, active_adapter)
        x = module.lora_dropout[active_adapter](x)
        return add_update(_own(module, result), x, B, A, module.scaling[active_adapter])


def variant_for(init: LoramInit) -> LoramVariant:
    """The variant of a request's form."""
    return ResidualVariant() if init.is_residual else DeviationVariant()


def _own(module: Any, result: Tensor) -> Tensor:
    """The base's output to write into: a copy if somebody's hook on the base may have kept it."""
    hooks = module.get_base_layer()._forward_hooks.values()
    return result.clone() if any(not isinstance(hook, Removed) for hook in hooks) else result
