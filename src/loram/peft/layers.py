"""LoRAM adapters on PEFT's layers: finding them, and the factors they hold."""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

from loram.peft.kinds import Kind, known, site_of
from loram.peft.record import record_of
from loram.peft.variant import DeviationVariant
from loram.product import Anchor, anchored

__all__ = [
    "Deviations",
    "LoraModule",
    "active_adapter",
    "base_weight",
    "deviations",
    "factor_matrices",
    "factor_weights",
    "frozen",
    "kind_of_layer",
    "lora_layers",
    "padding_of",
    "record_of",
    "true_delta_weight",
]


# A LoRA layer. PEFT's `LoraLayer` is mixed into `nn.Module`s without saying so to a type checker.
LoraModule: TypeAlias = Any


class Deviations(NamedTuple):
    """What trains, and what it deviates from: W_LoRA = s[dB | B⁰]·[A⁰ + dA ; dA].

    Attributes:
        dB: (n, r), or (experts, n, r).
        dA: (r, m), or (experts, r, m).
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


def kind_of_layer(layer: LoraModule) -> Kind:
    """The row of a LoRA layer, or of a layer that is to become one; errors as `known`."""
    return known(site_of(layer))


def deviations(layer: LoraModule, adapter: str) -> Deviations | None:
    """The factors of a deviation-form adapter on a layer; None for any other adapter."""
    record = record_of(layer, adapter)
    if record is None or not isinstance(layer.lora_variant.get(adapter), DeviationVariant):
        return None
    dA, dB = factor_matrices(layer, adapter)
    anchor = record.anchor(dB.shape[-2], dA.shape[-1], dA.shape[-2], like=dA)
    return Deviations(dB, dA, anchor, layer.scaling[adapter])


def true_delta_weight(layer: LoraModule, adapter: str) -> Tensor | None:
    """s(BA − B⁰A⁰) as the base stores its weight, in lora_B's dtype and device, as PEFT's own.

    None if the adapter is not in the deviation form: PEFT's sBA is then right.
    """
    parts = deviations(layer, adapter)
    if parts is None:
        return None
    # In float32 at least: PEFT does so on a CPU, and the sum of 2r products deserves it anywhere.
    dtype = torch.promote_types(parts.dB.dtype, torch.float32)
    left, right = anchored(parts.dB.to(dtype), parts.dA.to(dtype), parts.anchor)
    delta = (left @ right) * parts.scaling
    return kind_of_layer(layer).stored(site_of(layer), delta.to(parts.dB.dtype))


def factor_weights(layer: LoraModule, adapter: str) -> tuple[nn.Parameter, nn.Parameter]:
    """What PEFT trains on a layer, A and B, in PEFT's own shapes."""
    return kind_of_layer(layer).place.parameters(layer, adapter)


def factor_matrices(layer: LoraModule, adapter: str) -> tuple[Tensor, Tensor]:
    """What PEFT trains on a layer as A (r, m) and B (n, r), or stacks of them."""
    return kind_of_layer(layer).place.matrices(layer, adapter)


def frozen(layer: nn.Module) -> Any:
    """The frozen weight, as the base layer stores it."""
    return kind_of_layer(layer).parameter(site_of(layer))


def padding_of(layer: LoraModule) -> int | None:
    """Index of the row of an embedding that never gets a gradient; None for all else."""
    return getattr(site_of(layer).base, "padding_idx", None)


def base_weight(layer: nn.Module) -> Tensor:
    """The frozen weight in the mathematics' orientation (n, m) = (out, in), or a stack of such.

    A view of it for all but quantised weights.

    Args:
        layer: a LoRA layer, or one that is to become one.
    """
    return kind_of_layer(layer).read(site_of(layer))
