"""diffusers' own saving, taught to write LoRAM adapters as plain LoRA of rank 2r.

Its pipelines read LoRA files by the names and shapes of the tensors, and warn at most of those they
do not know: LoRAM's own tensors would load, and be wrong. So they never get into such a file. Works
on what diffusers has loaded by itself: nothing here imports it.
"""

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from loram.peft.errors import LoramError
from loram.peft.pipelines import CONFIG, WEIGHTS, plain_of, plain_state
from loram.peft.record import ATTRIBUTE
from loram.peft.spec import asks_for_loram
from loram.peft.stored import RECORD
from loram.peft.wraps import Function, install

__all__ = ["in_a_pipeline", "teach_diffusers", "tell_config"]

# Text encoders are Transformers' models; in a process with diffusers they are a pipeline's.
_ENCODERS = ("CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel")


def teach_diffusers() -> None:
    """Wrap diffusers' functions that write LoRA files, if it is loaded. Does nothing again."""
    base, mixin = map(sys.modules.get, ("diffusers.loaders.lora_base", "diffusers.loaders.peft"))
    if base is None or mixin is None:
        return
    install(base.LoraBaseMixin, "write_lora_layers", _write_lora_layers)
    install(mixin.PeftAdapterMixin, "save_lora_adapter", _save_lora_adapter)


def in_a_pipeline(model: nn.Module) -> bool:
    """Whether a model is diffusers', or one of the text encoders of its pipelines."""
    own = type(model)
    if own.__module__.startswith("diffusers."):
        return True
    return own.__name__ in _ENCODERS and "diffusers.loaders.peft" in sys.modules


def tell_config(
    original: Function, cls: Any, model: Any, config: Any, adapter_name: str, *args: Any, **kw: Any
) -> dict[str, Tensor]:
    """PEFT's tensors of an adapter, whose records bring the config to what saves them."""
    tensors: dict[str, Tensor] = original(cls, model, config, adapter_name, *args, **kw)
    if asks_for_loram(config):
        teach_diffusers()
        for key, tensor in tensors.items():
            if f".{ATTRIBUTE}." in key:
                setattr(tensor, CONFIG, config)
    return tensors


def _write_lora_layers(original: Function, *args: Any, **kwargs: Any) -> None:
    given = inspect.signature(original).bind(*args, **kwargs)
    state: Mapping[str, Tensor] = given.arguments["state_dict"]
    if any(key.endswith(RECORD) for key in state):
        noted = given.arguments.get("lora_adapter_metadata")
        given.arguments["state_dict"], header = plain_state(state, noted or {})
        if noted:
            given.arguments["lora_adapter_metadata"] = header
    original(*given.args, **given.kwargs)


def _save_lora_adapter(original: Function, self: Any, *args: Any, **kwargs: Any) -> None:
    given = inspect.signature(original).bind(self, *args, **kwargs)
    given.apply_defaults()
    asked = given.arguments
    adapter = asked["adapter_name"]
    if not asks_for_loram(getattr(self, "peft_config", {}).get(adapter)):
        return original(self, *args, **kwargs)
    if not asked["safe_serialization"]:
        raise LoramError("LoRAM adapters are saved as safetensors: leave safe_serialization=True")
    plain = plain_of(self, adapter, dtype=torch.float32 if asked["upcast_before_saving"] else None)
    folder = Path(asked["save_directory"])
    folder.mkdir(parents=True, exist_ok=True)
    save_file(plain.tensors, folder / (asked["weight_name"] or WEIGHTS), metadata={"format": "pt"})
