"""LoRAM under sharding: factors that only their own module can read, records that no shard holds.

FSDP2 of the layers around the adapters needs nothing of this: their weights are gathered when the
variant reads them.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers.distributed.fsdp import is_fsdp_enabled
from transformers.distributed.utils import is_local_dist_rank_0

from loram.peft.record import BasisRecord

__all__ = [
    "add_update_by_modules",
    "load_full_state_dict",
    "read_alone",
    "weights_come_from_rank_zero",
]


def weights_come_from_rank_zero() -> bool:
    """Whether this process has been given no weights: FSDP will send them from the first one.

    Transformers leaves the base on the meta device then (`fsdp_cpu_ram_efficient_loading`).
    """
    return is_fsdp_enabled() and not is_local_dist_rank_0()


def read_alone(factor: nn.Module) -> bool:
    """Whether the weight of lora_A or lora_B is whole only while that very module runs.

    So it is when the factor is a unit of its own under FSDP, and always under ZeRO-3.
    """
    weight: Any = factor.weight
    return type(factor) is not nn.Linear or isinstance(weight, DTensor) or hasattr(weight, "ds_id")


def add_update_by_modules(
    layer: Any, adapter: str, x: Tensor, y: Tensor, record: BasisRecord | None = None
) -> Tensor:
    """`loram.product.add_update` through the factors' own modules, each called once.

    y + s(lora_B(h + A⁰x) + B⁰h) with h = lora_A(x), so that whoever shards them gathers them.

    Args:
        layer: PEFT's Linear (m to n).
        adapter: its name.
        x: (..., m), what the adapter sees of the layer's input.
        y: (..., n), the frozen layer's own output.
        record: of A⁰ and B⁰; None if the factors are A and B themselves.

    Returns:
        (..., n), in y's dtype.
    """
    lora_A, lora_B, s = layer.lora_A[adapter], layer.lora_B[adapter], layer.scaling[adapter]
    x = x.to(lora_A.weight.dtype)
    h = lora_A(x)
    if record is None:
        return y + (lora_B(h) * s).to(y.dtype)
    anchor = record.anchor(layer.out_features, layer.in_features, layer.r[adapter], like=x)
    A0, B0 = anchor.A0.to(h.dtype), anchor.B0.to(h.dtype)
    return y + ((lora_B(h + x @ A0.T) + h @ B0.T) * s).to(y.dtype)


def load_full_state_dict(
    original: Any, accelerator: Any, model: nn.Module, full_sd: dict[str, Tensor], **kwargs: Any
) -> nn.Module:
    """Accelerate's hand-out of rank 0's weights to the shards, which takes parameters only.

    It is given a model on the meta device and fails on any persistent buffer. Our records are sent
    by ourselves, and kept out of its sight meanwhile.

    Args:
        original: `accelerate.utils.fsdp_utils.fsdp2_load_full_state_dict`.
        accelerator: its accelerator.
        model: sharded, on the meta device.
        full_sd: the whole state, on rank 0.
        kwargs: passed through.
    """
    keys = {id(tensor): key for key, tensor in model.state_dict(keep_vars=True).items()}
    records = [module for module in model.modules() if isinstance(module, BasisRecord)]
    for record in records:
        sent = torch.empty(2, dtype=torch.int64, device=accelerator.device)
        if accelerator.is_main_process:
            sent.copy_(full_sd[keys[id(record.weight)]])
        dist.broadcast(sent, src=0)
        record.register_buffer("weight", sent, persistent=False)
        record.refresh()
    try:
        return original(accelerator, model, full_sd, **kwargs)
    finally:
        for record in records:
            record.register_buffer("weight", record.weight)
