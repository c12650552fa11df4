"""PEFT adapters from plain values, for the rooms that do not know PEFT."""

import os
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.error import NoMatchingPeftModuleError
from torch import nn

from loram.peft.errors import LoramError

__all__ = ["attach", "load_adapter", "restore"]


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
    try:
        return get_peft_model(model, config)  # pyright: ignore[reportArgumentType]
    except NoMatchingPeftModuleError as error:
        raise LoramError(
            f"target_modules={target_modules!r} matches no layer of the model: expected "
            "all-linear, or names of its linear layers such as q_proj,v_proj"
        ) from error


def restore(model: Any, checkpoint: str | os.PathLike[str]) -> None:
    """Write a checkpoint's factors into the adapter that `attach` made, which goes on training."""
    model.load_adapter(os.fspath(checkpoint), "default", is_trainable=True)


def load_adapter(model: nn.Module, adapter: str | os.PathLike[str]) -> Any:
    """A model with a saved adapter on it, for inference."""
    return PeftModel.from_pretrained(model, os.fspath(adapter)).eval()  # pyright: ignore[reportArgumentType]
