"""Tiny models on quantised bases: a `Backend` is one way to get one.

All widths are multiples of 64, the block of bitsandbytes' 4-bit formats: its CPU kernel (0.50)
dequantises rows of other lengths wrongly.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from small import lora_layers
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    TorchAoConfig,
)

from loram.peft.layers import record_of

TARGETS = ["q_proj", "k_proj", "o_proj", "up_proj", "down_proj"]
VOCABULARY = 64


def save_llama(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """A Llama of width 64 with two layers, saved; always the same weights."""
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        initializer_range=0.1,
    )
    LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    return folder


def plain(folder: Path) -> PreTrainedModel:
    """The model of a folder as it was saved."""
    return LlamaForCausalLM.from_pretrained(folder).eval()


@dataclass(frozen=True)
class Backend:
    """A way to quantise the linear layers of a saved model.

    Attributes:
        name: of the parametrised test.
        kind: its row in `loram.peft.kinds`.
        package: that must be installed.
        load: folder → model, float32 all but the quantised weights.
        error: bound on ‖Ŵ − W‖ / ‖W‖ of its quantisation, on Gaussian weights.
        merges: whether PEFT merges into it.
        mixes: whether `adapter_names` batches work on it.
    """

    name: str
    kind: str
    package: str
    load: Callable[[Path], PreTrainedModel]
    error: float
    merges: bool = True
    mixes: bool = True

    def quantised(self, folder: Path) -> PreTrainedModel:
        """The saved model, quantised, in eval mode."""
        return keep_layout(self.load(folder).eval())


def keep_layout(model: PreTrainedModel) -> PreTrainedModel:
    """Keeps bitsandbytes from repacking 4-bit weights at the first evaluation on AVX512-BF16.

    It computes in bfloat16 from then on, and only on some machines: it has a test of its own.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def pretrained(folder: Path, config: Any, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """By Transformers' own loader."""
    return AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=config, device_map="cpu", dtype=dtype
    )


def bnb4(
    quant_type: str, *, double: bool, dtype: torch.dtype = torch.float32
) -> Callable[[Path], PreTrainedModel]:
    return lambda folder: pretrained(
        folder,
        BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=quant_type,
            bnb_4bit_use_double_quant=double,
            bnb_4bit_compute_dtype=dtype,
        ),
        dtype,
    )


def bnb8(folder: Path) -> PreTrainedModel:
    return pretrained(folder, BitsAndBytesConfig(load_in_8bit=True))


def torchao_of(config_name: str) -> Callable[[Path], PreTrainedModel]:
    def load(folder: Path) -> PreTrainedModel:
        import torchao.quantization

        return pretrained(folder, TorchAoConfig(getattr(torchao.quantization, config_name)()))

    return load


def replaced(
    folder: Path, quantise: Callable[[nn.Linear], nn.Module], method: str
) -> PreTrainedModel:
    """The saved model with every linear layer of its blocks replaced by hand."""
    model = plain(folder).requires_grad_(False)
    for name, module in list(model.model.named_modules()):
        if isinstance(module, nn.Linear):
            model.model.set_submodule(name, quantise(module))
    model.quantization_method = method
    return model


def hqq(bits: int) -> Callable[[Path], PreTrainedModel]:
    """Not by Transformers, which (5.23) does not load HQQ."""

    def load(folder: Path) -> PreTrainedModel:
        from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

        config = BaseQuantizeConfig(nbits=bits, group_size=64)
        return replaced(
            folder,
            lambda linear: HQQLinear(linear, config, compute_dtype=torch.float32, device="cpu"),
            "hqq",
        )

    return load


class BaseQuantLinear(nn.Module):
    """Stands in for GPT-QModel's, which does not install beside our torch.

    Eight 4-bit codes to an int32 along the input, a scale and a zero point for every 64 inputs and
    output, as GPTQ's; the attributes are those that PEFT and loram read.
    """

    SUPPORTS_METHODS = ()

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        W = linear.weight.detach().T  # (in, out)
        self.in_features, self.out_features = W.shape
        groups = W.reshape(-1, 64, W.shape[1])
        low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
        scales = (high - low) / 15
        codes = ((groups - low) / scales).round().reshape(-1, 8, W.shape[1]).to(torch.int64)
        shifts = 4 * torch.arange(8)[:, None]
        packed = (codes << shifts).sum(1)
        packed = torch.where(packed >= 2**31, packed - 2**32, packed).to(torch.int32)
        self.register_buffer("qweight", packed)
        self.register_buffer("scales", scales)
        self.register_buffer("lows", low)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.unpacked()

    def unpacked(self) -> Tensor:
        """(in, out)."""
        shifts = 4 * torch.arange(8)[:, None]
        codes = (self.qweight.to(torch.int64)[:, None] >> shifts) & 15
        groups = codes.reshape(-1, 64, self.out_features) * self.scales + self.lows
        return groups.reshape(self.in_features, self.out_features)


class TorchLinear(BaseQuantLinear):
    """A kernel that gives its weight back, as GPT-QModel's `backend="torch"`."""

    def dequantize_weight(self) -> Tensor:
        """(in, out), as GPT-QModel's."""
        return self.unpacked()


for _class in (BaseQuantLinear, TorchLinear):
    _class.__module__ = "gptqmodel.nn_modules.qlinear"


def pretend_gptqmodel(monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT finds the stand-in where it looks for GPT-QModel."""
    module = ModuleType("gptqmodel.nn_modules.qlinear")
    module.BaseQuantLinear = BaseQuantLinear  # type: ignore[attr-defined]
    for name in ("gptqmodel", "gptqmodel.nn_modules"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for user in ("peft.utils.other", "peft.tuners.lora.gptq", "peft.tuners.lora.awq"):
        monkeypatch.setattr(f"{user}.is_gptqmodel_available", lambda: True)


BACKENDS = (
    Backend("nf4", "bitsandbytes 4-bit", "bitsandbytes", bnb4("nf4", double=False), 0.11),
    Backend("nf4-double", "bitsandbytes 4-bit", "bitsandbytes", bnb4("nf4", double=True), 0.11),
    Backend("fp4", "bitsandbytes 4-bit", "bitsandbytes", bnb4("fp4", double=False), 0.15),
    Backend("int8", "bitsandbytes 8-bit", "bitsandbytes", bnb8, 0.01),
    Backend(
        "torchao-int8", "torchao weight-only", "torchao", torchao_of("Int8WeightOnlyConfig"), 0.01
    ),
    Backend(
        "torchao-fp8", "torchao weight-only", "torchao", torchao_of("Float8WeightOnlyConfig"), 0.03
    ),
    Backend("hqq-4", "HQQ", "hqq", hqq(4), 0.1, mixes=False),
    Backend("hqq-8", "HQQ", "hqq", hqq(8), 0.01, mixes=False),
    Backend(
        "gptq",
        "GPTQ",
        "",
        lambda folder: replaced(folder, TorchLinear, "gptq"),
        0.1,
        merges=False,
        mixes=False,
    ),
)


def each_backend(which: Callable[[Backend], bool] = lambda backend: True) -> Any:
    """Parametrises the fixture `backend`."""
    rows = [
        pytest.param(
            row,
            id=row.name,
            marks=pytest.mark.skipif(
                bool(row.package) and find_spec(row.package) is None,
                reason=f"{row.package} is not installed",
            ),
        )
        for row in BACKENDS
        if which(row)
    ]
    return pytest.mark.parametrize("backend", rows, indirect=True)


def each_kind(which: Callable[[Backend], bool] = lambda backend: True) -> Any:
    """`each_backend`, one backend a row of the table of layer kinds."""
    first = {row.kind: row for row in reversed(BACKENDS)}
    return each_backend(lambda backend: first[backend.kind] is backend and which(backend))


@torch.no_grad()
def multiplied_by(base: nn.Module) -> Tensor:
    """(n, m): what a layer without bias makes of the identity, whatever it stores."""
    training = base.training
    base.train()  # bitsandbytes quantises the input of 8-bit layers in eval mode
    out = base(torch.eye(base.in_features))
    base.train(training)
    return out.T.clone()


def bases(model: nn.Module, adapter: str = "default") -> dict[str, nn.Module]:
    """The quantised layers under an adapter."""
    layers = lora_layers(model, adapter)
    names = {id(module): name for name, module in model.named_modules()}
    return {names[id(layer)]: layer.get_base_layer() for layer in layers}


def base_weights(model: nn.Module, adapter: str = "default") -> dict[str, Tensor]:
    """What each of them multiplies by."""
    return {name: multiplied_by(base) for name, base in bases(model, adapter).items()}


@torch.no_grad()
def unquantised(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The saved model in float64 with the weights that a quantised one multiplies by."""
    oracle = plain(folder).double()
    for name, module in oracle.model.named_modules():
        if isinstance(module, nn.Linear):
            module.weight.copy_(multiplied_by(model.model.get_submodule(name)))
    return oracle


def betas_of(model: nn.Module, adapter: str = "default") -> list[float]:
    records = [record_of(layer, adapter) for layer in lora_layers(model, adapter)]
    return [record.beta for record in records if record is not None]
