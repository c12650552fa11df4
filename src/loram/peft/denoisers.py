"""An adapter on a diffusers model, started by a row of the methods table."""

from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor, nn

from loram.methods import Method
from loram.peft.attach import is_loram
from loram.peft.errors import LoramError
from loram.peft.layers import lora_layers
from loram.peft.start import fill
from loram.peft.stored import RECORD

__all__ = ["attach_denoiser", "records_state"]

_ADAPTER = "default"


def attach_denoiser(
    model: Any, method: Method, *, rank: int, alpha: float, targets: list[str]
) -> dict[str, Tensor] | None:
    """Put a new adapter on a diffusers model, whose own weights are frozen.

    Args:
        model: changed in place; its factors are float32 whatever its dtype.
        method: a row with an adapter that does not start from data.
        rank: r.
        alpha: `lora_alpha`.
        targets: ends of the names of the layers.

    Returns:
        PEFT's state dict of the untrained adapter, if the method is one of PEFT's that rewrite the
        base: needed to save it. None for the rest.

    Raises:
        LoramError: no layer matches, or the method can't go on one.
    """
    model.requires_grad_(False)
    config = LoraConfig(
        r=rank,
        lora_alpha=int(alpha) if float(alpha).is_integer() else alpha,  # pyright: ignore[reportArgumentType]
        use_rslora=method.rslora,
        target_modules=targets,
        init_lora_weights=method.init,  # pyright: ignore[reportArgumentType]
    )
    try:
        model.add_adapter(config, _ADAPTER)
    except LoramError:
        raise
    except ValueError as error:
        if "not found in the base model" not in str(error):
            raise
        raise LoramError(
            f"target_modules={','.join(targets)} matches no layer of {type(model).__name__}: "
            "expected ends of names such as to_q, to_k, to_v, to_out.0"
        ) from error
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
    for _, layer in lora_layers(model, _ADAPTER):
        fill(layer, _ADAPTER)
    if method.base != "rewritten" or is_loram(method):
        return None
    return {key: tensor.clone().cpu() for key, tensor in _state(model).items()}


def records_state(model: nn.Module) -> dict[str, Tensor]:
    """What LoRAM notes of its starting point, by layer; empty for any other method."""
    state = _state(model)
    return {key: each.clone().cpu() for key, each in state.items() if key.endswith(RECORD)}


def _state(model: nn.Module) -> dict[str, Tensor]:
    return get_peft_model_state_dict(model, adapter_name=_ADAPTER)
