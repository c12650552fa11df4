"""What a LoRAM adapter does in PEFT's forward, merge and unmerge: one `LoraVariant` a form and op.

PEFT consults a layer's variant in all of these in place of its own sBAx.
"""

from typing import Any

import torch
from peft.tuners.lora.layer import LoraVariant
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction

from loram.peft.errors import LoramError
from loram.peft.factors import CONVOLUTION, EMBEDDING, LINEAR, Place
from loram.peft.record import record_of
from loram.peft.sharding import add_update_by_modules, read_alone
from loram.product import Anchor, add_update, anchored

__all__ = [
    "AttentionDeviation",
    "ConvolutionDeviation",
    "DeviationVariant",
    "EmbeddingDeviation",
    "LoramVariant",
    "OutputProjectionDeviation",
    "ResidualVariant",
    "WeightDeviation",
]


class LoramVariant(LoraVariant):
    """An update that is added to the base: how it merges is the same in both forms."""

    @staticmethod
    def init(module: Any, adapter_name: str = "", **kwargs: Any) -> None:
        """Called by PEFT when the factors are in place: nothing is left to do."""

    @staticmethod
    def merge_safe(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """A copy of W with the update added."""
        _refuse_codes(module, orig_weight)
        delta = module.get_delta_weight(active_adapter)
        return orig_weight + delta.to(orig_weight.dtype)

    @staticmethod
    def merge_unsafe(module: Any, active_adapter: str, orig_weight: Tensor) -> None:
        """The update added to W in place."""
        _refuse_codes(module, orig_weight)
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


class EmbeddingDeviation(DeviationVariant):
    """Rows of s[dB | B⁰]·[A⁰ + dA ; dA], without ever building the stacked right factor.

    As in PEFT's own, there is no dropout on ids, and the row at `padding_idx` gets no gradient; its
    column of A⁰ is zero (see `loram.peft.record`), so it is never changed.
    """

    @staticmethod
    def forward(
        module: Any, active_adapter: str, x: Tensor, result: Tensor, **kwargs: Any
    ) -> Tensor:
        """The base's rows with the update's added.

        Args:
            module: PEFT's layer.
            active_adapter: its name.
            x: ids (...).
            result: (..., n), the base's rows.
            kwargs: unused.
        """
        dA, dB, anchor = parts_of(EMBEDDING, module, active_adapter)
        rows = module._embed(x, dA.T)  # (..., r), with the base's own padding_idx
        phi = nn.functional.embedding(x, anchor.phi_in)
        A = torch.addcmul(rows.to(phi.dtype), anchor.beta.to(phi.dtype), phi)
        left = torch.cat([dB, anchor.B0.to(dB.dtype)], dim=1) * module.scaling[active_adapter]
        update = torch.cat([A.to(result.dtype), rows.to(result.dtype)], -1) @ left.to(result).T
        scale = module._get_embed_scale()
        return result + (update if scale is None else update * scale.to(update))


class ConvolutionDeviation(DeviationVariant):
    """One convolution by the 2r kernels [A⁰ + dA ; dA], then 1×…×1 by s[dB | B⁰]."""

    @staticmethod
    def forward(
        module: Any, active_adapter: str, x: Tensor, result: Tensor, **kwargs: Any
    ) -> Tensor:
        """The base's output (batch, n, ...) with the update of x (batch, channels, ...) added."""
        dA, dB, anchor = parts_of(CONVOLUTION, module, active_adapter)
        x = module.lora_dropout[active_adapter](x).to(result.dtype)
        left, right = anchored(dB, dA, anchor)
        A, B = module.lora_A[active_adapter], module.lora_B[active_adapter]
        right, left = CONVOLUTION.write(
            right, left * module.scaling[active_adapter], A.weight, B.weight
        )
        inner = module.conv_fn(x, right.to(x.dtype), None, A.stride, A.padding)
        return result + module.conv_fn(inner, left.to(x.dtype))


class WeightDeviation(DeviationVariant):
    """Where PEFT's forward takes `get_delta_weight` instead of asking the variant."""

    @staticmethod
    def forward(
        module: Any, active_adapter: str, x: Tensor, result: Tensor, **kwargs: Any
    ) -> Tensor:
        """Never called."""
        raise NotImplementedError


class AttentionDeviation(WeightDeviation):
    """On the stacked query, key and value projections of a MultiheadAttention."""

    @staticmethod
    def init(module: Any, adapter_name: str = "", **kwargs: Any) -> None:
        """Keep TransformerEncoderLayer from its fused path, which would pass the adapter by.

        That path reads the base's weights instead of calling the attention, unless anything in the
        layer has a hook.
        """
        if _no_fused_path not in module._forward_hooks.values():
            module.register_forward_hook(_no_fused_path)


class OutputProjectionDeviation(WeightDeviation):
    """On the output projection of a MultiheadAttention: that one merges and unmerges it.

    PEFT 0.21 does so once by itself and once more by the projection's own merge, and so applies
    twice the update; ours is there once.
    """

    @staticmethod
    def merge_safe(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """W, which has the update already."""
        return orig_weight

    @staticmethod
    def merge_unsafe(module: Any, active_adapter: str, orig_weight: Tensor) -> None:
        """Nothing: W has the update already."""

    @staticmethod
    def unmerge(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """W, which has been freed of the update already."""
        return orig_weight.data


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


def _no_fused_path(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    """A hook that does nothing but be there."""


def _refuse_codes(module: Any, weight: Tensor) -> None:
    """A quantised weight must come dequantised: PEFT takes it for what it is only if told so."""
    if not weight.is_floating_point():
        raise LoramError(
            f"can't merge into {weight.dtype} codes: PEFT has taken a "
            f"{type(module.get_base_layer()).__name__} for a plain Linear. Set the model's "
            "is_loaded_in_4bit or is_loaded_in_8bit to True before the adapter is made, as "
            "Transformers does"
        )


def _own(module: Any, result: Tensor) -> Tensor:
    """The base's output to write into: a copy if it is not ours alone, or autograd forbids it."""
    if torch.compiler.is_compiling():
        return result  # `add_update` then writes nothing in place
    hooks = module.get_base_layer()._forward_hooks.values()
    kept = any(not getattr(hook, "keeps_no_output", False) for hook in hooks)
    return result.clone() if kept or _is_closed(result) else result


def _is_closed(result: Tensor) -> bool:
    """A view that an `autograd.Function` returned, as bitsandbytes' 8-bit product does."""
    node = result.grad_fn
    return (
        torch.is_grad_enabled()
        and result._is_view()
        and (node is None or isinstance(node, BackwardCFunction))
    )
