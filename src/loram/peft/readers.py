"""PEFT's features that read or write lora_A and lora_B themselves, past the layer: refused.

In the deviation form the parameters hold dA and dB, so each of these would be silently wrong:

- Arrow routes by the singular vectors of every adapter's BA, and sums A and B over adapters;
- X-LoRA multiplies by lora_A and lora_B in a forward pass of its own;
- intruder mitigation writes the factors of a new adapter, made from the old one's config;
- LoftQ's replacement overwrites them.

The optimisers that do so are made right instead: `loram.peft.optimizers`.
"""

from collections.abc import Mapping
from typing import Any

import peft
import peft.tuners.lora.intruders
import peft.utils
import peft.utils.loftq_utils
from peft import XLoraConfig

from loram.peft.errors import LoramError
from loram.peft.spec import asks_for_loram
from loram.peft.wraps import Function

__all__ = ["WRAPS", "check_readers"]

_WAY_OUT = "run `loram export` on the LoRAM adapters, which gives plain LoRA, and use those"


def check_readers(configs: Mapping[str, Any]) -> None:
    """Refuse LoRAM adapters beside an adapter whose layers read the factors of all others.

    Args:
        configs: of every adapter of the model, with the one that is about to be added.

    Raises:
        LoramError: there are both.
    """
    ours = sorted(name for name, config in configs.items() if asks_for_loram(config))
    for name, config in configs.items():
        feature = _reader(config)
        if ours and feature is not None:
            raise LoramError(
                f"{feature} (adapter {name!r}) reads the stored factors of other adapters, and "
                f"those of LoRAM adapters {ours} are deviations from a basis: {_WAY_OUT}"
            )


def _reader(config: Any) -> str | None:
    if isinstance(config, XLoraConfig):
        return "X-LoRA"
    return "Arrow" if getattr(config, "arrow_config", None) else None


def _reduce_intruder_dimension(
    original: Function,
    peft_model: Any,
    old_adapter_name: str = "default",
    *args: Any,
    **kwargs: Any,
) -> None:
    _refuse("reduce_intruder_dimension", peft_model, old_adapter_name)
    original(peft_model, old_adapter_name, *args, **kwargs)


def _replace_lora_weights_loftq(
    original: Function,
    peft_model: Any,
    model_path: str | None = None,
    adapter_name: str = "default",
    *args: Any,
    **kwargs: Any,
) -> None:
    _refuse("replace_lora_weights_loftq", peft_model, adapter_name)
    original(peft_model, model_path, adapter_name, *args, **kwargs)


def _refuse(function: str, model: Any, adapter: str) -> None:
    if asks_for_loram(getattr(model, "peft_config", {}).get(adapter)):
        raise LoramError(
            f"{function} writes stored factors, and those of LoRAM adapter {adapter!r} are not the "
            f"factors of its update: {_WAY_OUT}"
        )


WRAPS: tuple[tuple[Any, str, Function], ...] = (
    (peft.tuners.lora.intruders, "reduce_intruder_dimension", _reduce_intruder_dimension),
    (peft.utils.loftq_utils, "replace_lora_weights_loftq", _replace_lora_weights_loftq),
    (peft.utils, "replace_lora_weights_loftq", _replace_lora_weights_loftq),
    (peft, "replace_lora_weights_loftq", _replace_lora_weights_loftq),
)
