"""Gated LoRA: one adapter of rank r read as E experts of rank r/E, weighed anew for every example.

    ΔW·x = s Σ_e g_e B_e A_e x = s B (g ⊗ 1_{r/E}) ∘ (A x)          (iLoRA, arXiv 2408.10159)

The experts are blocks of PEFT's own A (r, m) and B (n, r), so that any start of the methods table
which keeps the base goes under the gates. In the deviation form B⁰A⁰ is taken out under the same
gates, s(B D A − B⁰ D A⁰) with D the gates: the start is exactly the base, whatever they are.

The gates come by an object that the layers of one model share; nothing is global:

    gates = Gates(4)
    gate_(peft_model, gates)
    with gates.using(g):        # (batch, 4)
        peft_model(**batch)
"""

import math
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from peft.tuners.lora.layer import Linear, LoraVariant
from torch import Tensor, nn

from loram.peft.errors import LoramError
from loram.peft.factors import LINEAR
from loram.peft.layers import active_adapter, lora_layers
from loram.peft.variant import DeviationVariant, parts_of
from loram.product import Anchor, anchored

__all__ = ["Gates", "expert_alpha", "gate_"]


class Gates:
    """The gates that hold for the batch a model is reading."""

    def __init__(self, experts: int) -> None:
        self.experts = experts
        self._now: Tensor | None = None

    @contextmanager
    def using(self, gates: Tensor) -> Generator[None]:
        """In the block the layers weigh their experts by `gates` (batch, experts).

        The backward pass needs no gates, unless activations are checkpointed: keep it in the block
        then.

        Raises:
            LoramError: another shape.
        """
        if gates.ndim != 2 or gates.shape[1] != self.experts:
            raise LoramError(
                f"expected gates of shape (batch, {self.experts}), got {tuple(gates.shape)}"
            )
        before, self._now = self._now, gates
        try:
            yield
        finally:
            self._now = before

    def columns(self, x: Tensor, columns: int) -> Tensor:
        """A factor for each of `columns` inner values of each example: (batch, 1, …, columns).

        Args:
            x: the layer's input (batch, …, m).
            columns: a multiple of the experts' number.

        Raises:
            LoramError: there are no gates, or another batch came.
        """
        if self._now is None:
            raise LoramError(
                "a gated adapter was run without gates: run the model in `with gates.using(…):`"
            )
        if x.ndim < 2 or x.shape[0] != self._now.shape[0]:
            raise LoramError(
                f"the gates are for {self._now.shape[0]} examples and a layer got an input of "
                f"shape {tuple(x.shape)}: expected the examples on its first axis"
            )
        each = self._now.repeat_interleave(columns // self.experts, dim=1)
        return each.view(each.shape[0], *[1] * (x.ndim - 2), columns)


def expert_alpha(alpha: float, experts: int, *, rslora: bool = False) -> float:
    """α to make the adapter with, so that s = α/(r/E), or α/√(r/E) under rsLoRA."""
    return alpha * (math.sqrt(experts) if rslora else experts)


def gate_(model: nn.Module, gates: Gates, *, adapter: str | None = None) -> None:
    """Put a model's LoRA adapter under gates, in place. It is then not mergeable.

    Args:
        model: with the adapter, started by a method that keeps the base.
        gates: shared by the layers; of this model alone.
        adapter: its name; the active one by default.

    Raises:
        LoramError: a layer that is not linear, has a variant of another kind (DoRA, the residual
            form), or whose rank the experts do not divide. Nothing was changed then.
    """
    name = adapter if adapter is not None else active_adapter(model)
    layers = list(lora_layers(model, name))
    if not layers:
        raise LoramError(f"adapter {name!r} has no LoRA layer on this model: nothing to gate")
    for where, layer in layers:
        _check(where, layer, name, gates.experts)
    for _, layer in layers:
        deviates = name in layer.lora_variant
        layer.lora_variant[name] = GatedDeviation(gates) if deviates else GatedVariant(gates)


def _check(where: str, layer: Any, adapter: str, experts: int) -> None:
    variant = layer.lora_variant.get(adapter)
    if not isinstance(layer, Linear) or type(variant) not in (type(None), DeviationVariant):
        kind = type(layer if variant is None else variant).__name__
        raise LoramError(
            f"{where}: gates go on linear layers with plain LoRA, or LoRAM in the deviation form, "
            f"got {kind}: use another method or other target_modules"
        )
    if layer.r[adapter] % experts:
        raise LoramError(
            f"{where}: rank {layer.r[adapter]} can't be cut into {experts} experts of equal rank"
        )


class _Refusing:
    """There is no one weight to merge: each example has its own."""

    @staticmethod
    def merge_safe(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """Refused."""
        raise LoramError("a gated adapter can't be merged: its update differs between examples")

    @staticmethod
    def merge_unsafe(module: Any, active_adapter: str, orig_weight: Tensor) -> None:
        """Refused."""
        raise LoramError("a gated adapter can't be merged: its update differs between examples")

    @staticmethod
    def unmerge(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """Refused."""
        raise LoramError("a gated adapter was never merged")


class GatedVariant(_Refusing, LoraVariant):
    """y + s B D A x, D the example's gates."""

    def __init__(self, gates: Gates) -> None:
        self.gates = gates

    @staticmethod
    def init(module: Any, adapter_name: str = "", **kwargs: Any) -> None:
        """Called by PEFT: nothing is left to do."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # PEFT calls it on the object
        self, module: Any, active_adapter: str, x: Tensor, result: Tensor, **kwargs: Any
    ) -> Tensor:
        """The base's output with the gated update added."""
        A, B = LINEAR.matrices(module, active_adapter)
        return _add(self.gates, module, active_adapter, x, result, B, A, None)


class GatedDeviation(_Refusing, DeviationVariant):
    """y + s(B D A − B⁰ D A⁰)x, which is exactly y at the start."""

    def __init__(self, gates: Gates) -> None:
        self.gates = gates

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # as above
        self, module: Any, active_adapter: str, x: Tensor, result: Tensor, **kwargs: Any
    ) -> Tensor:
        """The base's output with the gated update added."""
        dA, dB, anchor = parts_of(LINEAR, module, active_adapter)
        return _add(self.gates, module, active_adapter, x, result, dB, dA, anchor)


def _add(
    gates: Gates,
    module: Any,
    adapter: str,
    x: Tensor,
    result: Tensor,
    dB: Tensor,
    dA: Tensor,
    anchor: Anchor | None,
) -> Tensor:
    left, right = anchored(dB, dA, anchor)
    left, dtype = left * module.scaling[adapter], result.dtype
    inner = F.linear(module.lora_dropout[adapter](x).to(dtype), right.to(dtype))
    gate = gates.columns(x, dA.shape[0])
    if anchor is not None:
        gate = gate.repeat(*[1] * (gate.ndim - 1), 2)
    return result + F.linear(inner * gate.to(dtype), left.to(dtype))
