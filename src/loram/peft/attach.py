"""PEFT adapters from plain values, for the rooms that do not know PEFT."""

import os
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

__all__ = ["attach", "load_adapter"]


def attach(
    model: nn.Module,
    init: str,
    *,
    rank: int,
    alpha: float,
    rslora: bool = False,
    dropout: float = 0.0,
    target_modules: str = "all-linear",
) -> Any:
    """A causal language model with a new LoRA adapter on it.

    Args:
        model: changed in place, as PEFT does.
        init: `lora` for PEFT's default, a LoRAM string, or any `init_lora_weights` without data.
        rank: r.
        alpha: `lora_alpha`.
        rslora: s = α/√r.
        dropout: on the adapter's input.
        target_modules: `all-linear`, or names joined by commas.

    Returns:
        PEFT's model.
    """
    named = [name.strip() for name in target_modules.split(",")]
    chosen: Any = True if init.strip().lower() == "lora" else init
    config = LoraConfig(
        r=rank,
        lora_alpha=int(alpha) if float(alpha).is_integer() else alpha,  # pyright: ignore[reportArgumentType]
        use_rslora=rslora,
        lora_dropout=dropout,
        target_modules=target_modules if target_modules == "all-linear" else named,
        init_lora_weights=chosen,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)  # pyright: ignore[reportArgumentType]


def load_adapter(model: nn.Module, adapter: str | os.PathLike[str]) -> Any:
    """A model with a saved adapter on it, for inference."""
    return PeftModel.from_pretrained(model, os.fspath(adapter)).eval()  # pyright: ignore[reportArgumentType]
