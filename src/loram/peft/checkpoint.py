"""Reading LoRAM adapters from checkpoints: without β the factors mean nothing."""

from collections.abc import Mapping
from typing import Any

from peft import LoraConfig
from torch import Tensor, nn

from loram.peft.layers import lora_layers, record_of
from loram.peft.preflight import LoramError
from loram.peft.record import ATTRIBUTE, BasisRecord, check_beta
from loram.peft.residual import take_out
from loram.peft.spec import DEVIATION, parse

__all__ = ["check", "check_hotswap"]


def check(model: nn.Module, config: LoraConfig, adapter: str, state: Mapping[str, Tensor]) -> None:
    """Before PEFT writes a checkpoint into a model: refuse what would be silently wrong.

    In the residual form this is also where the base is rewritten, with the file's β.

    Args:
        model: with the adapter's layers in place.
        config: the adapter's.
        adapter: its name.
        state: the checkpoint, by the model's own keys.

    Raises:
        LoramError: a LoRAM adapter without its β, or a plain LoRA config over LoRAM's tensors.
        ValueError: a β that can't be.
    """
    init = parse(getattr(config, "init_lora_weights", None))
    if init is None:
        _refuse_strangers(config, state)
        return
    for name, layer in lora_layers(model, adapter):
        record = record_of(layer, adapter)
        if record is None or f"{name}.lora_A.{adapter}.weight" not in state:
            continue
        stored = state.get(f"{name}.{ATTRIBUTE}.{adapter}.weight")
        if stored is None:
            raise LoramError(
                f"the checkpoint has factors for {name} but no {ATTRIBUTE}: expected a LoRAM "
                "adapter with its β. Either it is a plain LoRA adapter, to be loaded with "
                "init_lora_weights=True, or a tool has stripped it"
            )
        check_beta(stored, name)
        if init.is_residual:
            fresh = BasisRecord(0.0, init.basis, init.seed, layer.r[adapter])
            fresh.weight.copy_(stored)
            fresh.refresh()
            take_out(layer, adapter, fresh, keep_base=init.keep_base)


def check_hotswap(
    model: nn.Module, state: Mapping[str, Tensor], adapter: str, config: LoraConfig
) -> None:
    """Before PEFT swaps factors in place: refuse what the swap can't do.

    Raises:
        LoramError: a residual-form adapter on either side, or a LoRAM adapter without its β.
    """
    incoming = parse(config.init_lora_weights)
    mine = [r for _, layer in lora_layers(model, adapter) if (r := record_of(layer, adapter))]
    present: Any = getattr(model, "peft_config", {}).get(adapter)
    resident = parse(getattr(present, "init_lora_weights", None))
    if (incoming and incoming.is_residual) or (resident and resident.is_residual):
        raise LoramError(
            "a loram_residual adapter can't be hot-swapped: each has its own rewritten base. Use "
            f"init_lora_weights={DEVIATION!r}"
        )
    suffix = f".{ATTRIBUTE}.{adapter}.weight"
    if incoming and not any(key.endswith(suffix) for key in state):
        raise LoramError(
            f"the incoming adapter is LoRAM by its config, but its file has no {ATTRIBUTE}: a tool "
            "has stripped it"
        )
    if not incoming and mine:
        _refuse_strangers(config, state)
    for key, value in state.items():
        if key.endswith(suffix):
            check_beta(value, key.removesuffix(suffix))


def _refuse_strangers(config: Any, state: Mapping[str, Tensor]) -> None:
    if any(f".{ATTRIBUTE}." in key for key in state):
        raise LoramError(
            "the checkpoint is a LoRAM adapter, but its config says init_lora_weights="
            f"{getattr(config, 'init_lora_weights', None)!r}: as plain LoRA its factors would be "
            "wrong. Restore the string in adapter_config.json, or run `loram export`"
        )
