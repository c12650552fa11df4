"""LoRAM adapters on PEFT's layers: finding them, and the factors they hold."""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias, cast

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

from loram.peft.record import ATTRIBUTE, BasisRecord
from loram.product import Anchor, anchored

__all__ = [
    "Deviations",
    "LoraModule",
    "active_adapter",
    "base_weight",
    "deviations",
    "factor_weights",
    "lora_layers",
    "oriented",
    "record_of",
    "true_delta_weight",
]


# A LoRA layer. PEFT's `LoraLayer` is mixed into `nn.Module`s without saying so to a type checker.
LoraModule: TypeAlias = Any


class Deviations(NamedTuple):
    """What trains, and what it deviates from: W_LoRA = s[dB | B⁰]·[A⁰ + dA ; dA].

    Attributes:
        dB: (n, r).
        dA: (r, m).
        anchor: B⁰ and A⁰.
        scaling: s.
    """

    dB: Tensor
    dA: Tensor
    anchor: Anchor
    scaling: float | Tensor


def lora_layers(model: nn.Module, adapter: str | None = None) -> Iterator[tuple[str, LoraModule]]:
    """(name, layer) of every LoRA layer of a model, or of those that hold `adapter`."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer) and (adapter is None or adapter in module.r):
            yield name, module


def active_adapter(model: nn.Module) -> str:
    """Name of the adapter in use (the first, if there are several)."""
    active: Any = getattr(model, "active_adapter", "default")
    if callable(active):  # Transformers' own integration has a method
        active = active()
    return active if isinstance(active, str) else active[0]


def record_of(layer: nn.Module, adapter: str) -> BasisRecord | None:
    """The record of a LoRAM adapter on a layer, either form; None for any other adapter."""
    records = getattr(layer, ATTRIBUTE, None)
    if not isinstance(records, nn.ModuleDict) or adapter not in records:
        return None
    return cast(BasisRecord, records[adapter])


def deviations(layer: LoraModule, adapter: str) -> Deviations | None:
    """The factors of a deviation-form adapter on a layer; None for any other adapter."""
    from loram.peft.variant import DeviationVariant

    record = record_of(layer, adapter)
    if record is None or not isinstance(layer.lora_variant.get(adapter), DeviationVariant):
        return None
    dA, dB = factor_weights(layer, adapter)
    anchor = record.anchor(dB.shape[0], dA.shape[1], dA.shape[0], like=dA)
    return Deviations(dB, dA, anchor, layer.scaling[adapter])


def true_delta_weight(layer: LoraModule, adapter: str) -> Tensor | None:
    """s(BA − B⁰A⁰) in the base weight's orientation, dtype and device of lora_B, as PEFT's own.

    None if the adapter is not in the deviation form: PEFT's sBA is then right.
    """
    parts = deviations(layer, adapter)
    if parts is None:
        return None
    # In float32 at least: PEFT does so on a CPU, and the sum of 2r products deserves it anywhere.
    dtype = torch.promote_types(parts.dB.dtype, torch.float32)
    left, right = anchored(parts.dB.to(dtype), parts.dA.to(dtype), parts.anchor)
    delta = (left @ right) * parts.scaling
    return oriented(layer, delta.to(parts.dB.dtype))


def factor_weights(layer: LoraModule, adapter: str) -> tuple[nn.Parameter, nn.Parameter]:
    """What PEFT trains on a layer: lora_A's weight (r, m) and lora_B's (n, r)."""
    return layer.lora_A[adapter].weight, layer.lora_B[adapter].weight


def base_weight(layer: nn.Module) -> Tensor:
    """The frozen weight in the mathematics' orientation (n, m) = (out, in): a view, never a copy.

    Args:
        layer: a LoRA layer, or a plain Linear or Conv1D.
    """
    base = layer.get_base_layer() if isinstance(layer, LoraLayer) else layer
    weight = cast(Tensor, base.weight)
    return weight.T if _is_transposed(base) else weight


def oriented(layer: LoraModule, delta: Tensor) -> Tensor:
    """(n, m) turned to the orientation in which the base layer stores its weight."""
    return delta.T if _is_transposed(layer.get_base_layer()) else delta


def _is_transposed(base: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(base, Conv1D)
