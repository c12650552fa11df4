"""An adapter on one layer that belongs to no model: what it costs to start, without the rest."""

from typing import Any

import torch
from peft import LoraConfig, LoraGAConfig, get_peft_model
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn

from loram.peft.calibration import calibrate
from loram.peft.record import BasisRecord, record_of

__all__ = ["basis_of", "start_alone", "start_calibrated"]

_NAME = "layer"
_SETTINGS = {"lora_ga": ("lora_ga_config", LoraGAConfig), "corda": ("corda_config", CordaConfig)}


def start_alone(W: Tensor, init: str | bool, r: int) -> LoraLinear:
    """PEFT's layer around a Linear with this weight, its adapter started.

    Args:
        W: (n, m), which a method that rewrites its base changes in place.
        init: PEFT's `init_lora_weights`.
        r: rank; s = 1.
    """
    config = LoraConfig(init_lora_weights=init)  # pyright: ignore[reportArgumentType]
    return LoraLinear(_linear(W), "default", config=config, r=r, lora_alpha=r)


def start_calibrated(W: Tensor, init: str, r: int, X: Tensor) -> Any:
    """The same for a method that starts from data: its calibration on one batch, then the adapter.

    Args:
        W: (n, m).
        init: `lora_ga` or `corda`, as PEFT names them.
        r: rank; s = 1.
        X: (1, tokens, m), inputs of the layer. The loss is the mean square of its outputs.
    """
    config = LoraConfig(r=r, lora_alpha=r, target_modules=[_NAME], init_lora_weights=init)  # pyright: ignore[reportArgumentType]
    field, made = _SETTINGS[init]
    setattr(config, field, made())
    model = _OneLayer(W)
    batch = {"input_ids": X, "attention_mask": torch.ones(X.shape[:2], dtype=torch.long)}
    calibrate(model, config, [batch])
    return get_peft_model(model, config)  # pyright: ignore[reportArgumentType]


def basis_of(layer: nn.Module) -> BasisRecord | None:
    """What keeps the layer's drawn bases alive, which other layers of its widths then share."""
    return record_of(layer, "default")


class _OneLayer(nn.Module):
    """A model of one layer that is called as a language model is."""

    def __init__(self, W: Tensor) -> None:
        super().__init__()
        self.layer = _linear(W)

    def forward(self, input_ids: Tensor, **rest: Any) -> Any:
        return _Output(self.layer(input_ids).float().square().mean())


class _Output:
    def __init__(self, loss: Tensor) -> None:
        self.loss = loss


def _linear(W: Tensor) -> nn.Linear:
    linear = nn.Linear(W.shape[1], W.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(W, requires_grad=False)
    return linear
