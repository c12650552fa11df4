# pyright: reportPrivateUsage=false
"""Registration with PEFT: every place where PEFT is taught about LoRAM, and nothing else.

PEFT has no hook for a new `init_lora_weights`, so a few of its functions are wrapped. Each wrap
passes through for adapters that are not ours. `register` may be called again, `unregister` undoes
it; `import loram` registers.
"""

import copy
import os
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import peft.utils.hotswap
from accelerate.utils import fsdp_utils
from peft import LoraConfig, PeftConfig, PeftModel
from peft.tuners.lora import LoraModel
from peft.tuners.lora.layer import Embedding as LoraEmbedding
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.layer import (
    LoraLayer,
    ParamWrapper,
    _ConvNd,
)
from peft.tuners.lora.layer import MultiheadAttention as LoraAttention
from peft.tuners.mixed import MixedModel
from torch import Tensor
from transformers.integrations.peft import PeftAdapterMixin

from loram.peft import calibration, checkpoint, optimizers, readers, unasked
from loram.peft.decompositions import check_decomposed, is_decomposition, start_decomposed
from loram.peft.diffusing import in_a_pipeline, teach_diffusers, tell_config
from loram.peft.errors import LoramError
from loram.peft.layers import LoraModule, kind_of_layer, lora_layers
from loram.peft.preflight import check_neighbours, plan
from loram.peft.record import record_of
from loram.peft.residual import forget, give_back, removed_from
from loram.peft.returned import take_back
from loram.peft.sharding import load_full_state_dict, weights_come_from_rank_zero
from loram.peft.spec import DEVIATION, asks_for_loram, parse
from loram.peft.start import (
    fill,
    loading,
    planned,
    settle_casts,
    start,
    stop,
    tell_the_true_delta,
    weights_come_from_a_checkpoint,
)
from loram.peft.twin import copy_records, twin_of
from loram.peft.wraps import Function, install, undo

__all__ = ["DEFAULT_INIT", "register", "unregister"]

# `loram run --init STRING` sets it: what a LoraConfig that was left at its default asks for.
DEFAULT_INIT = "LORAM_INIT"

# Inside PEFT's add_weighted_adapter, whose result is a plain LoRA whatever the default init is.
_combining: ContextVar[bool] = ContextVar("loram_combining", default=False)


def register() -> None:
    """Teach PEFT the strings `loram` and `loram_residual`. Does nothing the second time."""
    for owner, name, wrap in _WRAPS:
        install(owner, name, wrap)
    for layer_class in _DELTA_CLASSES:
        tell_the_true_delta(layer_class)


def unregister() -> None:
    """Give PEFT its own functions back. Models that hold LoRAM adapters stop working."""
    undo()


# ---- the config ----------------------------------------------------------------------------------


def _post_init(original: Function, self: LoraConfig) -> None:
    original(self)
    if parse(self.init_lora_weights) is not None and type(self) is not LoraConfig:
        raise LoramError(
            f"init_lora_weights={self.init_lora_weights!r} goes with LoraConfig, got "
            f"{type(self).__name__}"
        )


# ---- making an adapter ---------------------------------------------------------------------------


def _inject_adapter(
    original: Function, self: Any, model: Any, adapter_name: str, *args: Any, **kwargs: Any
) -> None:
    config: Any = self.peft_config[adapter_name]
    if not isinstance(config, LoraConfig):  # X-LoRA's own, which has no init
        return original(self, model, adapter_name, *args, **kwargs)
    state_dict = kwargs.get("state_dict")
    from_file = (
        weights_come_from_a_checkpoint() or kwargs.get("low_cpu_mem_usage") or bool(state_dict)
    )
    twin = twin_of(self.peft_config, adapter_name)
    to_come = from_file or twin is not None or weights_come_from_rank_zero()
    default = os.environ.get(DEFAULT_INIT)
    # diffusers' training scripts have "gaussian" written in them: no choice of their user's.
    defaults = (True, "gaussian") if in_a_pipeline(model) else (True,)
    untouched = type(config) is LoraConfig and config.init_lora_weights in defaults
    if default and untouched and not from_file and not _combining.get():
        if parse(default) is None:
            raise LoramError(f"{DEFAULT_INIT}={default!r}: expected loram or loram_residual")
        config.init_lora_weights = default  # pyright: ignore[reportAttributeAccessIssue]
    check_neighbours(model, self.peft_config, adapter_name, config)
    readers.check_readers(self.peft_config)
    if is_decomposition(config.init_lora_weights):
        check_decomposed(self, model, config, state_dict or (), from_file=from_file)
    init = parse(config.init_lora_weights)
    if init is None:
        with loading() if from_file else nullcontext():
            original(self, model, adapter_name, *args, **kwargs)
        return settle_casts(model)
    teach_diffusers()
    betas = plan(self, model, config, state_dict or (), weigh=not to_come)
    with loading() if to_come else planned(betas):
        original(self, model, adapter_name, *args, **kwargs)
    if twin is not None:
        copy_records(model, twin, adapter_name)
    if init.tracked is not None:
        calibration.forget(model)  # gradients, as large as the model
    settle_casts(model)


def _inject_mixed(
    original: Function, self: Any, model: Any, adapter_name: str, *args: Any, **kwargs: Any
) -> None:
    ours = [name for name, config in self.peft_config.items() if asks_for_loram(config)]
    if ours:
        raise LoramError(
            f"adapters {ours} are LoRAM, and get_peft_model(mixed=True) does not support it: use "
            "get_peft_model without mixed"
        )
    original(self, model, adapter_name, *args, **kwargs)


def _reset_lora_parameters(
    original: Function, self: LoraModule, adapter_name: str, init_lora_weights: Any
) -> None:
    init = parse(init_lora_weights)
    if init is None:
        stop(self, adapter_name)
        if not is_decomposition(init_lora_weights):
            return original(self, adapter_name, init_lora_weights)
        start_decomposed(self, adapter_name, init_lora_weights)
        return original(self, adapter_name, False)
    start(self, adapter_name, init)
    # The rest of PEFT's function synchronises the factors of tensor-parallel layers.
    return original(self, adapter_name, False)


def _cast_adapter_dtype(
    original: Function, self: Any, adapter_name: str, *args: Any, **kwargs: Any
) -> None:
    original(self, adapter_name, *args, **kwargs)
    if not weights_come_from_a_checkpoint():
        for _, layer in lora_layers(self.model, adapter_name):
            fill(layer, adapter_name)


# ---- loading -------------------------------------------------------------------------------------


def _from_checkpoint(original: Function, *args: Any, **kwargs: Any) -> Any:
    with loading():
        return original(*args, **kwargs)


def _remap_for_load(
    original: Function, cls: Any, model: Any, config: Any, adapter_name: str, state_dict: Any
) -> dict[str, Tensor]:
    mapped: dict[str, Tensor] = original(cls, model, config, adapter_name, state_dict)
    if asks_for_loram(config):
        mapped = take_back(model, adapter_name, mapped)
    checkpoint.check(model, config, adapter_name, mapped)
    return mapped


def _save_pretrained(
    original: Function, self: PeftModel, save_directory: Any, *args: Any, **kwargs: Any
) -> None:
    selected = kwargs.get("selected_adapters") or list(self.peft_config)
    if kwargs.get("path_initial_model_for_weight_conversion") is not None and any(
        asks_for_loram(self.peft_config[name]) for name in selected if name in self.peft_config
    ):
        raise LoramError(
            "path_initial_model_for_weight_conversion is not for LoRAM: save the adapter as it is "
            "and run `loram export ADAPTER OUT`, which needs no initial adapter"
        )
    original(self, save_directory, *args, **kwargs)


def _transformers_load_adapter(original: Function, self: Any, *args: Any, **kwargs: Any) -> Any:
    """Transformers' own integration, which reads files without PEFT's functions."""
    named = dict(zip(("peft_model_id", "adapter_name"), args, strict=False)) | kwargs
    name = named.get("adapter_name") or "default"
    resident: Any = getattr(self, "peft_config", {}).get(name)
    swapped = resident is not None  # else Transformers refuses the name
    if swapped and asks_for_loram(resident):
        incoming = named.get("peft_config") or PeftConfig.from_pretrained(named["peft_model_id"])
        checkpoint.refuse_residual_swap(resident, incoming)
    with loading():
        info = original(self, *args, **kwargs)
    checkpoint.check_loaded(self, name, info)
    return info


def _hotswap(
    original: Function,
    model: Any,
    state_dict: dict[str, Tensor],
    adapter_name: str,
    config: LoraConfig,
    *args: Any,
    **kwargs: Any,
) -> None:
    checkpoint.check_hotswap(model, state_dict, adapter_name, config)
    original(model, state_dict, adapter_name, config, *args, **kwargs)
    for _, layer in lora_layers(model, adapter_name):
        record = record_of(layer, adapter_name)
        if record is not None:
            record.refresh()  # PEFT writes through `.data`, unseen


# ---- using and combining -------------------------------------------------------------------------


def _supports_conversion(
    original: Function, self: LoraModule, adapter_name: str = "default"
) -> Any:
    removed = removed_from(self)
    if removed is not None and removed.adapter == adapter_name:
        raise LoramError(
            "convert_to_lora would give an adapter for the rewritten base, not for the pretrained "
            f"model: use `loram export`, or init_lora_weights={DEVIATION!r}"
        )
    return original(self, adapter_name)


def _add_weighted_adapter(
    original: Function, self: Any, adapters: list[str], *args: Any, **kwargs: Any
) -> None:
    ours = [a for a in adapters if a in self.peft_config and asks_for_loram(self.peft_config[a])]
    if not ours:
        return _combine(original, self, adapters, *args, **kwargs)
    named = dict(zip(("weights", "adapter_name", "combination_type"), args, strict=False)) | kwargs
    kind = named.get("combination_type", "svd")
    if not str(kind).endswith("svd") or len(adapters) == 1:
        raise LoramError(
            f"add_weighted_adapter(combination_type={kind!r}) on {len(adapters)} adapter(s) "
            f"combines stored factors, and those of LoRAM adapters {ours} are deviations from a "
            "basis: use combination_type='svd' with two adapters or more, or `loram export` them"
        )
    for name, layer in lora_layers(self.model):
        if any(adapter in layer.r for adapter in ours) and kind_of_layer(layer).combine:
            raise LoramError(f"add_weighted_adapter on {name}: {kind_of_layer(layer).combine}")
    # The sum is a plain LoRA: the new adapter's config is copied by PEFT from the first one's.
    first = adapters[0]
    config = self.peft_config[first]
    self.peft_config[first] = replace(config, init_lora_weights=True, use_rslora=False)
    try:
        _combine(original, self, adapters, *args, **kwargs)
    finally:
        self.peft_config[first] = config


def _combine(original: Function, *args: Any, **kwargs: Any) -> None:
    token = _combining.set(True)
    try:
        original(*args, **kwargs)
    finally:
        _combining.reset(token)


def _rescale(original: Function, self: LoraModule, *args: Any, **kwargs: Any) -> None:
    removed = removed_from(self)
    if removed is None:
        return original(self, *args, **kwargs)
    before = copy.deepcopy(self.scaling)
    original(self, *args, **kwargs)
    try:
        removed.check_scaling()
    except LoramError:
        self.scaling.update(before)
        raise


def _check_forward_args(
    original: Function, self: LoraModule, x: Any, *args: Any, **kwargs: Any
) -> None:
    original(self, x, *args, **kwargs)
    names: Any = kwargs.get("adapter_names")
    if names is None:
        return
    if removed_from(self) is not None:
        raise LoramError(
            "adapter_names mixes adapters in one batch, and the base of a loram_residual adapter "
            f"serves that adapter alone: use init_lora_weights={DEVIATION!r}"
        )
    ours = sorted(name for name in set(names) if record_of(self, name) is not None)
    if ours and (reason := kind_of_layer(self).mixed):
        raise LoramError(f"adapter_names with the LoRAM adapters {ours}: {reason}. Run them apart")


# ---- taking an adapter off -----------------------------------------------------------------------


def _delete_adapter(original: Function, self: LoraModule, adapter_name: str) -> None:
    removed = removed_from(self)
    if removed is not None and removed.adapter == adapter_name:
        give_back(self)
    original(self, adapter_name)


def _unload(original: Function, self: Any, *args: Any, **kwargs: Any) -> Any:
    layers = [layer for _, layer in lora_layers(self.model) if removed_from(layer) is not None]
    model = original(self, *args, **kwargs)
    for layer in layers:
        removed = removed_from(layer)
        if removed is not None and removed.adapter in layer.merged_adapters:
            forget(layer)
        else:
            give_back(layer)
    return model


# Those of optional backends are taught when a layer of theirs is first met.
_DELTA_CLASSES = (LoraLinear, LoraEmbedding, _ConvNd, LoraAttention, ParamWrapper)

_WRAPS: tuple[tuple[Any, str, Function], ...] = (
    (LoraConfig, "__post_init__", _post_init),
    (LoraModel, "inject_adapter", _inject_adapter),
    (MixedModel, "inject_adapter", _inject_mixed),
    (LoraLayer, "reset_lora_parameters", _reset_lora_parameters),
    (LoraModel, "_cast_adapter_dtype", _cast_adapter_dtype),
    (PeftModel, "from_pretrained", _from_checkpoint),
    (PeftModel, "load_adapter", _from_checkpoint),
    (LoraModel, "_remap_adapter_state_dict_for_load", _remap_for_load),
    (LoraModel, "_get_adapter_state_dict", tell_config),
    (PeftModel, "save_pretrained", _save_pretrained),
    (PeftAdapterMixin, "load_adapter", _transformers_load_adapter),
    (peft.utils.hotswap, "hotswap_adapter_from_state_dict", _hotswap),
    (LoraLinear, "supports_lora_conversion", _supports_conversion),
    (LoraModel, "add_weighted_adapter", _add_weighted_adapter),
    (LoraEmbedding, "_mixed_batch_forward", unasked.mixed_embedding),
    (LoraAttention, "forward", unasked.attention_forward),
    (ParamWrapper, "get_delta_factors", unasked.expert_factors),
    (LoraLayer, "set_scale", _rescale),
    (LoraLayer, "scale_layer", _rescale),
    (LoraLayer, "unscale_layer", _rescale),
    (LoraLayer, "_check_forward_args", _check_forward_args),
    (LoraLayer, "delete_adapter", _delete_adapter),
    (LoraModel, "_unload_and_optionally_merge", _unload),
    (fsdp_utils, "fsdp2_load_full_state_dict", load_full_state_dict),
    *optimizers.WRAPS,
    *readers.WRAPS,
)
