"""Reading LoRAM adapters from checkpoints: without β the factors mean nothing."""

import math
from collections.abc import Mapping
from typing import Any

from peft import LoraConfig
from torch import Tensor, nn

from loram.peft.errors import LoramError
from loram.peft.factors import EMBEDDING, LINEAR
from loram.peft.layers import LoraModule, factor_weights, kind_of_layer, lora_layers, padding_of
from loram.peft.record import ATTRIBUTE, BasisRecord, check_beta, record_of
from loram.peft.residual import take_out
from loram.peft.spec import DEVIATION, LoramInit, parse

__all__ = ["check", "check_hotswap", "check_loaded", "refuse_residual_swap"]


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
    found: list[tuple[LoraModule, BasisRecord]] = []
    for name, layer in lora_layers(model, adapter):
        record = record_of(layer, adapter)
        if record is None:
            continue
        stored = _stored(layer, name, adapter, init, state)
        found.append((layer, stored))
    # Everything in the file is right: only now is anything changed.
    for layer, stored in found:
        present = record_of(layer, adapter)
        assert present is not None
        if stored.beta == 0 and not present.weight.is_meta and math.isnan(present.beta):
            present.weight.copy_(stored.weight)  # a layer that the file does not have
        elif init.is_residual and stored.beta != 0:
            take_out(layer, adapter, stored, keep_base=init.keep_base)


def _stored(
    layer: LoraModule,
    name: str,
    adapter: str,
    init: LoramInit,
    state: Mapping[str, Tensor],
) -> BasisRecord:
    """The record a file has for a layer; β = 0, the base itself, if it lacks the whole layer."""
    absent = BasisRecord(0.0, init.basis, init.seed, layer.r[adapter], padding_of(layer))
    keys = kind_of_layer(layer).place.keys(name, adapter)
    code = state.get(f"{name}.{ATTRIBUTE}.{adapter}.weight")
    if code is None:
        if any(key in state for key in keys):
            raise LoramError(
                f"the checkpoint has factors for {name} but no {ATTRIBUTE}: expected a LoRAM "
                "adapter with its β. Either it is a plain LoRA adapter, to be loaded with "
                "init_lora_weights=True, or a tool has stripped it"
            )
        return absent
    check_beta(code, name)
    if code.shape != absent.weight.shape:
        raise LoramError(
            f"{name}: expected a {ATTRIBUTE} of {len(absent.weight)} entries, the checkpoint has "
            f"{len(code)}: it was made for an embedding with another padding_idx"
        )
    for key, mine in zip(keys, factor_weights(layer, adapter), strict=True):
        theirs = state.get(key)
        if theirs is not None and init.is_residual and theirs.shape != mine.shape:
            raise LoramError(
                f"expected {key} of shape {tuple(mine.shape)}, the checkpoint has "
                f"{tuple(theirs.shape)}: it was made with another rank or for another model"
            )
    return BasisRecord.read(code)


def check_loaded(model: nn.Module, adapter: str, info: Any) -> None:
    """After a loader that does not ask before: raise on what it has silently left wrong.

    Args:
        model: that the adapter was loaded into.
        adapter: its name.
        info: the loader's report, with `unexpected_keys`.

    Raises:
        LoramError: as `check`. The adapter is then unusable, the base as it was.
    """
    config: Any = getattr(model, "peft_config", {}).get(adapter)
    init = parse(getattr(config, "init_lora_weights", None))
    if init is None:
        _refuse_strangers(config, dict.fromkeys(info.unexpected_keys))
        return
    state = dict(model.state_dict())
    missing = set(info.missing_keys)
    for key in missing:
        state.pop(key, None)
    for _, layer in lora_layers(model, adapter):
        record = record_of(layer, adapter)
        if record is not None:
            record.refresh()
    check(model, config, adapter, state)


def check_hotswap(
    model: nn.Module, state: Mapping[str, Tensor], adapter: str, config: LoraConfig
) -> None:
    """Before PEFT swaps factors in place: refuse what the swap can't do.

    Raises:
        LoramError: a residual-form adapter on either side, or a LoRAM adapter without its β.
    """
    refuse_residual_swap(getattr(model, "peft_config", {}).get(adapter), config)
    if parse(config.init_lora_weights) is None:
        _refuse_strangers(config, state)
        return
    ends = [place.keys("", adapter)[0] for place in (LINEAR, EMBEDDING)]
    for key in state:
        end = next((end for end in ends if key.endswith(end)), None)
        if end is None:
            continue
        name = key.removesuffix(end)
        code = state.get(f"{name}.{ATTRIBUTE}.{adapter}.weight")
        if code is None:
            raise LoramError(
                f"the incoming adapter is LoRAM by its config, but its file has no {ATTRIBUTE} for "
                f"{name}: a tool has stripped it"
            )
        check_beta(code, name)


def refuse_residual_swap(resident: Any, incoming: Any) -> None:
    """Refuse a hot-swap from or to the residual form.

    Args:
        resident: config of the adapter in place.
        incoming: config of the one that takes its place.

    Raises:
        LoramError: either is in the residual form.
    """
    for config in (resident, incoming):
        init = parse(getattr(config, "init_lora_weights", None))
        if init is not None and init.is_residual:
            raise LoramError(
                "a loram_residual adapter can't be hot-swapped: each has its own rewritten base. "
                f"Use init_lora_weights={DEVIATION!r}"
            )


def _refuse_strangers(config: Any, state: Mapping[str, Any]) -> None:
    if any(f".{ATTRIBUTE}." in key for key in state):
        raise LoramError(
            "the checkpoint is a LoRAM adapter, but its config says init_lora_weights="
            f"{getattr(config, 'init_lora_weights', None)!r}: as plain LoRA its factors would be "
            "wrong. Restore the string in adapter_config.json, or run `loram export`"
        )
