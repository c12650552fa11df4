# pyright: reportPrivateUsage=false
"""Where PEFT's forward pass goes by a layer's variant: each made right for LoRAM."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from loram.peft.layers import LoraModule, deviations, kind_of_layer, record_of, site_of
from loram.peft.wraps import Function
from loram.product import anchored

__all__ = ["attention_forward", "expert_factors", "mixed_embedding"]


def mixed_embedding(
    original: Function, self: LoraModule, x: Tensor, *args: Any, adapter_names: list[str], **kw: Any
) -> Tensor:
    """A batch of several adapters on an Embedding: PEFT's own computes sBA there.

    Args:
        original: PEFT's.
        self: its layer.
        x: ids (batch, ...).
        args: for the base.
        adapter_names: one a row of the batch.
        kw: for the base.
    """
    ours = {name for name in adapter_names if record_of(self, name) is not None}
    others = ["__base__" if name in ours else name for name in adapter_names]
    result: Tensor = original(self, x, *args, adapter_names=others, **kw)
    for name in sorted(ours):
        rows = [i for i, other in enumerate(adapter_names) if other == name]
        result[rows] = self.lora_variant[name].forward(
            self, active_adapter=name, x=x[rows], result=result[rows]
        )
    return result


def expert_factors(
    original: Function, self: LoraModule, adapter: str
) -> tuple[Tensor, Tensor, float]:
    """Factors of the update of a stack of experts, for PEFT's fused W + s·left·right.

    Returns:
        [dB | B⁰] (experts, n, 2r) and [A⁰ + dA ; dA] (experts, 2r, m), or both transposed and in
        the other order where the module stores (experts, m, n); in the parameter's dtype; and s.
    """
    parts = deviations(self, adapter)
    if parts is None:
        return original(self, adapter)
    left, right = anchored(parts.dB, parts.dA, parts.anchor)
    parameter = self.get_param()
    if not self._did_swap_in_out_features:
        left, right = right.mT, left.mT
    return left.to(parameter.dtype), right.to(parameter.dtype), float(parts.scaling)


def attention_forward(original: Function, self: LoraModule, *args: Any, **kwargs: Any) -> Any:
    """PEFT merges the active adapters, runs the base and unmerges, which rounds the base each time.

    With a LoRAM adapter there, the base gets its own tensors back instead.
    """
    ours = any(record_of(self, name) is not None for name in self.r)
    if not ours or self.merged or self.disable_adapters:
        return original(self, *args, **kwargs)
    with _weights_kept(self, self.get_base_layer().out_proj):
        return original(self, *args, **kwargs)


@contextmanager
def _weights_kept(*layers: LoraModule) -> Generator[None]:
    """Gives the bases of the layers back the very parameters that they have now."""
    kept: list[tuple[nn.Module, str, nn.Parameter]] = []
    for layer in layers:
        base, name = site_of(layer).base, kind_of_layer(layer).weight
        kept.append((base, name, getattr(base, name)))
    try:
        yield
    finally:
        for base, name, parameter in kept:
            setattr(base, name, parameter)
