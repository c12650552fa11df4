"""A LoRAM adapter takes back the plain LoRA that was made of it.

What diffusers' scripts write as a checkpoint is what its pipelines read: plain LoRA of rank 2r,
s[dB | B⁰]·[A⁰ + dA ; dA]. To go on from it, dB and dA are read out of it again, if it was made from
just this starting point.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from loram.peft.factors import EXPERTS
from loram.peft.layers import LoraModule, deviations, kind_of_layer, lora_layers
from loram.peft.record import ATTRIBUTE, BasisRecord, record_of

__all__ = ["take_back"]


def take_back(model: nn.Module, adapter: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint with the plain form of an adapter's own layers replaced by the stored form.

    Args:
        model: with the adapter in place, made as it was before: β, basis and seed are the layers'.
        adapter: its name.
        state: by the model's keys. Layers with a record, or of another origin, stay as they are.
    """
    own = dict(state)
    for name, layer in lora_layers(model, adapter):
        record = record_of(layer, adapter)
        code = f"{name}.{ATTRIBUTE}.{adapter}.weight"
        place = kind_of_layer(layer).place
        keys = place.keys(name, adapter)
        if record is None or code in own or place is EXPERTS or not set(keys) <= own.keys():
            continue
        if record.weight.is_meta or math.isnan(record.beta):
            continue
        A, B = own[keys[0]], own[keys[1]]
        factors = _apart(layer, adapter, record, *place.read(A, B, A.shape[0]))
        if factors is not None:
            written = place.write(factors[0], factors[1], A, B)
            own |= dict(zip(keys, (factor.contiguous() for factor in written), strict=True))
            own[code] = record.weight.clone()
    return own


def _apart(
    layer: LoraModule, adapter: str, record: BasisRecord, A: Tensor, B: Tensor
) -> tuple[Tensor, Tensor] | None:
    """A and B as the layer stores them, of [A⁰ + dA ; dA] and s[dB | B⁰]; None for all else."""
    r, s = layer.r[adapter], float(layer.scaling[adapter])
    if A.shape[0] < 2 * r or s == 0:
        return None
    left, right = B.double(), A.double()
    anchor = record.anchor(B.shape[0], A.shape[1], r, like=right)
    A0, B0 = anchor.A0.to(right.device), anchor.B0.to(left.device)
    # What rounding to the file's dtype can have done, of the larger part.
    slack = 4 * torch.finfo(B.dtype).eps * float((s * B0).abs().max())
    if not torch.allclose(left[:, r : 2 * r], s * B0, rtol=0, atol=slack):
        return None
    if left[:, 2 * r :].any() or right[2 * r :].any():
        return None
    dA, dB = right[r : 2 * r], left[:, :r] / s
    if deviations(layer, adapter) is None:  # the residual form stores A and B themselves
        dA, dB = dA + A0, dB + B0
    return dA.to(A.dtype), dB.to(B.dtype)
