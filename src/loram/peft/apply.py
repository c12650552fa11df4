"""LoRAM on an adapter that exists already: `loram.apply_(peft_model)`."""

from dataclasses import replace
from typing import Any

from torch import nn

from loram.peft.errors import LoramError
from loram.peft.layers import active_adapter, lora_layers
from loram.peft.preflight import check_layers, check_neighbours
from loram.peft.spec import parse
from loram.peft.start import planned, settle_casts, start

__all__ = ["apply_"]

_PLAIN = (True, False, "gaussian", "orthogonal", "eva")


def apply_(model: nn.Module, init: str = "loram", *, adapter: str | None = None) -> None:
    """Start an existing, untrained plain LoRA adapter again as LoRAM, in place.

    The same as having asked for it in `LoraConfig(init_lora_weights=init)`; for code that makes the
    adapter itself and only hands the model over. Whatever the factors held is lost.

    Args:
        model: a PeftModel, or any model with LoRA layers injected by PEFT.
        init: `"loram"` or `"loram_residual"`, with options as in the config.
        adapter: its name; the active one by default.

    Raises:
        ValueError: `init` is not a LoRAM string, there is no such adapter, or its own
            initialisation has rewritten the base.
        LoramError: a layer that LoRAM can't go on. Nothing was changed then.
    """
    parsed = parse(init)
    if parsed is None:
        raise ValueError(
            f"expected a string such as 'loram' or 'loram(gain=spectral)', got {init!r}"
        )
    configs: dict[str, Any] = getattr(model, "peft_config", {})
    name = adapter if adapter is not None else active_adapter(model)
    if name not in configs:
        raise ValueError(f"no adapter {name!r} on this model: it has {sorted(configs)}")
    config = configs[name]
    if config.init_lora_weights not in _PLAIN:
        raise LoramError(
            f"adapter {name!r} was made with init_lora_weights={config.init_lora_weights!r}: "
            f"expected a plain one {_PLAIN}, whose base is the pretrained one"
        )
    layers = list(lora_layers(model, name))
    if not layers:
        raise ValueError(f"adapter {name!r} has no LoRA layer on this model")
    wanted = replace(config, init_lora_weights=init)
    betas = check_layers(layers, name, wanted, model)
    check_neighbours(model, configs, name, wanted)
    config.init_lora_weights = init
    with planned(betas):
        for _, layer in layers:
            start(layer, name, parsed)
            layer.lora_variant[name].init(layer, name, config=config)
    settle_casts(model)
