"""Quantised layers: how each backend gives its weight back as W (n, m), and who can't carry LoRAM.

The deviation form needs of a frozen weight only its magnitude, so a weight that can be read is
enough. No backend is imported to recognise its layers: there are none before it is loaded, and its
classes are known by package and name.
"""

from typing import Any, NamedTuple, cast

import torch
from peft.utils.integrations import dequantize_bnb_weight
from torch import Tensor

from loram.peft.spec import DEVIATION
from loram.peft.variant import DeviationVariant

__all__ = [
    "FOREIGN",
    "OWN_PRODUCT",
    "REQUANTISES",
    "RESIDUAL_REQUANTISES",
    "UNREADABLE",
    "Bnb4bitVariant",
    "Foreign",
    "bnb_4bit",
    "bnb_8bit",
    "gptq",
    "gptq_problem",
    "hqq",
    "is_a",
    "is_awq",
    "is_bnb_4bit",
    "is_bnb_8bit",
    "is_fp8",
    "is_gptq",
    "is_hqq",
    "is_torchao",
    "torchao",
    "torchao_problem",
]

RESIDUAL_REQUANTISES = (
    "the residual form rewrites the weight, which would quantise it a second time: use "
    f"init_lora_weights={DEVIATION!r}, which only reads it"
)
REQUANTISES = "quantises the weight again: merging and unmerging lose what the quantisation loses"
_OTHERS = "Load the base with bitsandbytes, HQQ or torchao, or leave the layer out"
_BLOCK = 1024


class Foreign(NamedTuple):
    """Layers that LoRAM can't go on.

    Attributes:
        name: shown to users.
        package: top-level, of the class.
        classes: names of the layer's class, or of one that it inherits from.
        reason: with the way out.
    """

    name: str
    package: str
    classes: tuple[str, ...]
    reason: str

    def has(self, base: Any) -> bool:
        """Whether a layer is one of these."""
        return is_a(base, self.package, *self.classes)


OWN_PRODUCT = f"PEFT computes the adapter of such a layer itself, as plain LoRA. {_OTHERS}"
UNREADABLE = f"its weight is a code that LoRAM does not read. {_OTHERS}"

FOREIGN: tuple[Foreign, ...] = (
    Foreign("AQLM", "aqlm", ("QuantizedLinear",), OWN_PRODUCT),
    Foreign("EETQ", "eetq", ("EetqLinear",), OWN_PRODUCT),
    Foreign("EETQ in Transformers", "transformers", ("EetqLinear",), OWN_PRODUCT),
    Foreign(
        "TransformerEngine",
        "transformer_engine",
        ("Linear", "LayerNormLinear", "LayerNormMLP"),
        "PEFT computes the adapter of such a layer itself, as plain LoRA: leave it out",
    ),
    Foreign(
        "Megatron tensor parallel",
        "megatron",
        ("ColumnParallelLinear", "RowParallelLinear"),
        "PEFT computes the adapter of such a layer itself, as plain LoRA, over a weight that is "
        "split between processes: leave it out",
    ),
    Foreign("INC fp8", "neural_compressor", ("PatchedLinear",), UNREADABLE),
    Foreign(
        "fp8 in Transformers",
        "transformers",
        ("FP8Linear", "CompressedTensorsFP8Linear"),
        UNREADABLE,
    ),
)


def is_a(thing: object, package: str, *names: str) -> bool:
    """Whether the class of an object, or one that it inherits from, is one of `package`'s."""
    return any(
        each.__name__ in names and each.__module__.partition(".")[0] == package
        for each in type(thing).__mro__
    )


def bnb_4bit(base: Any) -> Tensor:
    """Weight (n, m) of a bitsandbytes Linear4bit, in the dtype that was quantised."""
    weight = base.weight
    state = weight.quant_state
    if state is None:  # it is quantised when it is moved to its device
        return cast(Tensor, weight.data)
    if getattr(state, "packing_format_for_cpu", False):
        return _multiplied_out(weight, state)
    return dequantize_bnb_weight(weight)


def _multiplied_out(weight: Any, state: Any) -> Tensor:
    """W = W·I, in bfloat16, for a layout that `dequantize_4bit` misreads.

    On a CPU with AVX512-BF16 bitsandbytes (0.50) repacks the weight at the first evaluation, for a
    product that only its own kernel can do, and dequantises it afterwards as if it had not.
    """
    import bitsandbytes as bnb

    _, m = state.shape
    columns: list[Tensor] = []
    for start in range(0, m, _BLOCK):
        end = min(start + _BLOCK, m)
        eye = torch.zeros(end - start, m, dtype=torch.bfloat16, device=weight.device)
        eye[:, start:end].fill_diagonal_(1)
        columns.append(bnb.matmul_4bit(eye, weight, quant_state=state).T)
    return torch.cat(columns, dim=1).to(state.original_dtype)


class Bnb4bitVariant(DeviationVariant):
    """Merges into the weight that the layer multiplies by, however it is packed at present."""

    @staticmethod
    def merge_safe(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """A copy of W with the update added; PEFT quantises it."""
        if orig_weight.is_floating_point():  # else PEFT has not seen that the layer is quantised
            orig_weight = bnb_4bit(module.get_base_layer())
        return DeviationVariant.merge_safe(module, active_adapter, orig_weight)

    @staticmethod
    def unmerge(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        """W with the update taken out again; PEFT quantises it."""
        weight = bnb_4bit(module.get_base_layer())
        return DeviationVariant.unmerge(module, active_adapter, weight)


def bnb_8bit(base: Any) -> Tensor:
    """Weight (n, m) of a bitsandbytes Linear8bitLt, float32."""
    weight = base.weight
    if weight.dtype != torch.int8:  # it is quantised when it is moved to its device
        return cast(Tensor, weight.data)
    return dequantize_bnb_weight(weight, state=base.state)


def hqq(base: Any) -> Tensor:
    """Weight (n, m) of an HQQLinear, in its compute dtype."""
    return cast(Tensor, base.dequantize())


def torchao(base: Any) -> Tensor:
    """Weight (n, m) of a Linear whose weight is a torchao tensor, in the dtype it stands for.

    Raises:
        TypeError: torchao can't dequantise this one.
    """
    try:
        return cast(Tensor, base.weight.dequantize())
    except NotImplementedError as error:
        raise TypeError(
            f"torchao does not dequantise a {type(base.weight).__name__}. {_OTHERS}"
        ) from error


def torchao_problem(base: Any) -> str | None:
    """Why LoRAM can't go on a Linear whose weight is a torchao tensor, or None."""
    kind = type(base.weight).__name__
    if kind == "Int4Tensor":
        return "PEFT does not adapt torchao's int4 weights: use int8, or bitsandbytes for 4 bits"
    if getattr(base.weight, "act_quant_kwargs", None) is not None:
        return (
            "torchao quantises the activations too, and passes no gradient through that: use a "
            "weight-only configuration, such as Int8WeightOnlyConfig"
        )
    return None


def gptq(base: Any) -> Tensor:
    """Weight (n, m) of a layer of GPT-QModel."""
    return cast(Tensor, base.dequantize_weight()).T


def gptq_problem(base: Any) -> str | None:
    """Why LoRAM can't go on a GPTQ layer of GPT-QModel, or None."""
    if callable(getattr(base, "dequantize_weight", None)):
        return None
    return (
        f"the kernel {type(base).__name__} does not give its weight back: load the base with "
        "GPT-QModel's backend 'torch'"
    )


# ---- which layer is whose, by PEFT's own rules ---------------------------------------------------


def is_bnb_4bit(base: Any) -> bool:
    """bitsandbytes, nf4 or fp4."""
    return is_a(base, "bitsandbytes", "Linear4bit")


def is_bnb_8bit(base: Any) -> bool:
    """bitsandbytes, LLM.int8()."""
    return is_a(base, "bitsandbytes", "Linear8bitLt")


def is_torchao(base: Any) -> bool:
    """A layer whose weight is one of torchao's tensors."""
    return is_a(getattr(base, "weight", None), "torchao", "TorchAOBaseTensor")


def is_hqq(base: Any) -> bool:
    """HQQ."""
    return is_a(base, "hqq", "HQQLinear")


def is_gptq(base: Any) -> bool:
    """GPT-QModel, AWQ too."""
    return is_a(base, "gptqmodel", "BaseQuantLinear")


def is_awq(base: Any) -> bool:
    """GPT-QModel's AWQ."""
    methods = getattr(base, "SUPPORTS_METHODS", ())
    return is_gptq(base) and any(method.value == "awq" for method in methods)


def is_fp8(base: Any) -> bool:
    """A layer with a float8 weight."""
    dtype = getattr(getattr(base, "weight", None), "dtype", torch.float32)
    return dtype.is_floating_point and dtype.itemsize == 1
