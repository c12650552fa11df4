"""One tiny model for every row of `loram.peft.kinds.KINDS`; a row without one fails its tests."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import LoraConfig
from small import lora_config
from torch import Tensor, nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding
from transformers.pytorch_utils import Conv1D


@dataclass(frozen=True)
class Case:
    """A layer, what goes in, and how PEFT is told of it.

    Attributes:
        make: the layer, with random weights.
        x: makes its input in a dtype.
        settings: of the LoraConfig, beside r = 2 and s = 1.
        sites: weights that get an adapter.
        breaks_stock: plain LoRA on it fails in PEFT 0.21.
    """

    make: Callable[[], nn.Module]
    x: Callable[[torch.dtype], Tensor]
    settings: dict[str, Any] = field(default_factory=lambda: {"target_modules": ["layer"]})
    sites: int = 1
    breaks_stock: bool = False

    def net(self, dtype: torch.dtype = torch.float32) -> "Net":
        """Always the same weights."""
        torch.manual_seed(4)
        return Net(self.make()).to(dtype).eval()

    def input(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Always the same; a batch of four."""
        torch.manual_seed(5)
        return self.x(dtype)

    def config(self, init: Any = "loram", **settings: Any) -> LoraConfig:
        return lora_config(init, r=2, **(self.settings | settings))


class Net(nn.Module):
    """A layer, called as models call it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        inner = self.layer
        while hasattr(inner, "base_layer"):
            inner = inner.base_layer
        if isinstance(inner, nn.MultiheadAttention):
            return self.layer(x, x, x, need_weights=False)[0]
        return self.layer(x)


class Matrix(nn.Module):
    """A bare parameter (n, m)."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(12, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.table.T


class Experts(nn.Module):
    """Experts with two stacked parameters, in either order of storage, all on every token."""

    def __init__(self, experts: int = 3, *, transposed: bool = False) -> None:
        super().__init__()
        self.is_transposed = transposed
        up, down = (8, 12), (12, 8)
        self.up = nn.Parameter(torch.randn(experts, *(up if transposed else up[::-1])))
        self.down = nn.Parameter(torch.randn(experts, *(down if transposed else down[::-1])))

    def forward(self, x: Tensor) -> Tensor:
        up, down = (w if self.is_transposed else w.mT for w in (self.up, self.down))
        return (((x.flatten(0, 1) @ up) / 8).tanh() @ down).sum(0).view(x.shape)


def _ids(dtype: torch.dtype) -> Tensor:
    return torch.randint(0, 20, (4, 6))  # with the padding index 3 among them


def _tokens(dtype: torch.dtype) -> Tensor:
    return torch.randn(4, 6, 8, dtype=dtype)


def _image(*size: int) -> Callable[[torch.dtype], Tensor]:
    return lambda dtype: torch.randn(4, 4, *size, dtype=dtype)


def parameters(*names: str) -> dict[str, Any]:
    """Settings that target parameters and no module."""
    return {"target_modules": [], "target_parameters": [f"layer.{name}" for name in names]}


STACKED = parameters("up", "down")

# By the row's name: cases for the tests of `test_layer_coverage.py`, or the file that proves it.
CASES: dict[str, dict[str, Case] | str] = {
    "Linear": {"": Case(lambda: nn.Linear(8, 12), _tokens)},
    "Conv1D": {
        "": Case(
            lambda: Conv1D(12, 8), _tokens, {"target_modules": ["layer"], "fan_in_fan_out": True}
        )
    },
    "Embedding": {
        "": Case(lambda: nn.Embedding(20, 8), _ids),
        "padding": Case(lambda: nn.Embedding(20, 8, padding_idx=3), _ids),
    },
    "scaled Embedding": {
        "": Case(lambda: Gemma3TextScaledWordEmbedding(20, 8, 3, embed_scale=math.sqrt(8)), _ids)
    },
    "Conv1d": {"": Case(lambda: nn.Conv1d(4, 8, 3, padding=1), _image(9))},
    "Conv2d": {
        "": Case(lambda: nn.Conv2d(4, 8, 3, stride=2, padding=(0, 1)), _image(7, 8)),
        "1x1": Case(lambda: nn.Conv2d(4, 8, 1), _image(3, 3)),
        "channels last": Case(
            lambda: nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last), _image(5, 5)
        ),
    },
    "Conv3d": {"": Case(lambda: nn.Conv3d(4, 6, (1, 3, 3), padding="same"), _image(3, 4, 5))},
    "MultiheadAttention": {
        "": Case(lambda: nn.MultiheadAttention(8, 2, batch_first=True), _tokens, sites=2),
        "no bias": Case(
            lambda: nn.MultiheadAttention(8, 2, bias=False, batch_first=True), _tokens, sites=2
        ),
    },
    "MultiheadAttention.out_proj": "test_layer_attention.py",
    "bitsandbytes 4-bit": "test_quantised_forms.py",
    "bitsandbytes 8-bit": "test_quantised_forms.py",
    "torchao weight-only": "test_quantised_forms.py",
    "HQQ": "test_quantised_forms.py",
    "GPTQ": "test_quantised_forms.py",
    "AWQ": "test_quantised_refusals.py",
    "AQLM": "test_quantised_refusals.py",
    "EETQ": "test_quantised_refusals.py",
    "EETQ in Transformers": "test_quantised_refusals.py",
    "TransformerEngine": "test_quantised_refusals.py",
    "Megatron tensor parallel": "test_quantised_refusals.py",
    "INC fp8": "test_quantised_refusals.py",
    "fp8 in Transformers": "test_quantised_refusals.py",
    "fp8 weight": "test_quantised_refusals.py",
    "parameter (n, m)": {"": Case(Matrix, _tokens, parameters("table"))},
    "parameter (experts, n, m)": {
        "": Case(Experts, _tokens, STACKED, sites=2),
        "transposed": Case(lambda: Experts(transposed=True), _tokens, STACKED, sites=2),
        "one": Case(lambda: Experts(1), _tokens, STACKED, sites=2),
        "one, transposed": Case(
            lambda: Experts(1, transposed=True), _tokens, STACKED, sites=2, breaks_stock=True
        ),
        "only one parameter": Case(Experts, _tokens, parameters("up")),
    },
}
