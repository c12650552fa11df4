"""The kinds of layer that LoRAM goes on: one table, and every question about a layer asks it.

A row says how a layer is recognised, by the exact operation of its forward pass; how its frozen
weight reads as the matrix W (n, m) = (out, in) of the mathematics; where PEFT keeps its factors;
what runs in its forward pass; and what LoRAM can't do on it, with the reason. A layer that no row
recognises is refused. `docs/layers.md` is generated from the table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from peft.tuners.lora.layer import LoraLayer, LoraVariant, ParamWrapper
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from transformers.pytorch_utils import Conv1D

from loram.peft import quantised
from loram.peft.errors import LoramError
from loram.peft.factors import CONVOLUTION, EMBEDDING, EXPERTS, LINEAR, Place
from loram.peft.spec import DEVIATION, LoramInit
from loram.peft.variant import (
    AttentionDeviation,
    ConvolutionDeviation,
    DeviationVariant,
    EmbeddingDeviation,
    OutputProjectionDeviation,
    ResidualVariant,
    WeightDeviation,
)

__all__ = ["KINDS", "LEAVE_OUT", "Kind", "Site", "kind_of", "known", "plain_problem", "site_of"]

LEAVE_OUT = "Leave it out of target_modules (or name it in exclude_modules)"
_ONLY_PLAIN = (
    "the residual form rewrites the weights of Linear and Conv1D layers only: use "
    f"init_lora_weights={DEVIATION!r}"
)


class Site(NamedTuple):
    """A frozen weight that an adapter goes on.

    Attributes:
        base: the module that holds it.
        parameter: its name, if PEFT was given it by `target_parameters`; else None.
    """

    base: Any
    parameter: str | None = None


def _as_it_is(site: Site, matrix: Tensor) -> Tensor:
    return matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One row: a kind of layer.

    Attributes:
        name: shown to users; the docs' row, and the key of its fixture in the coverage tests.
        matches: whether a site is of this kind.
        problem: why LoRAM can't go on this very layer, with the way out; None if it can. Not about
            the values of the weight.
        note: for the docs.
        weight: attribute that holds the frozen weight.
        matrix: the weight as W (n, m), or (experts, n, m): a view if it can be, or a copy.
        stored: a (n, m) update in the shape in which the layer stores its weight.
        place: where PEFT keeps the factors.
        deviation: what PEFT consults in the forward pass of the deviation form; or why there is
            none, with the way out.
        residual: the same of the residual form.
        merge: "" if merging and unmerging are PEFT's own to rounding; else what is different.
        mixed: "" if `adapter_names` batches work; else why they are refused.
        combine: "" if `add_weighted_adapter` by SVD works; else why it is refused.
        export: "" if the adapter can be written as plain LoRA; else why not, with the way out.
        package: that must be installed for there to be such layers; "" for none.
    """

    name: str
    matches: Callable[[Site], bool]
    problem: Callable[[Site], str | None]
    note: str = ""
    weight: str = "weight"
    matrix: Callable[[Site, Tensor], Tensor] = _as_it_is
    stored: Callable[[Site, Tensor], Tensor] = _as_it_is
    place: Place = LINEAR
    deviation: type[LoraVariant] | str = DeviationVariant
    residual: type[LoraVariant] | str = _ONLY_PLAIN
    merge: str = ""
    mixed: str = ""
    combine: str = ""
    export: str = ""
    package: str = ""

    def parameter(self, site: Site) -> Any:
        """The frozen weight as the layer stores it."""
        return getattr(site.base, site.parameter or self.weight)

    def read(self, site: Site) -> Tensor:
        """The frozen weight as W (n, m), or (experts, n, m)."""
        return self.matrix(site, self.parameter(site))

    def form(self, init: LoramInit) -> type[LoraVariant] | str:
        """What PEFT consults for a request in place of its own sBAx; or why it can't be had."""
        return self.residual if init.is_residual else self.deviation

    def refusal(self, init: LoramInit) -> str | None:
        """Why the form of a request can't go on any such layer, or None."""
        form = self.form(init)
        return form if isinstance(form, str) else None

    def variant(self, init: LoramInit) -> LoraVariant:
        """A new one of what PEFT consults for a request."""
        form = self.form(init)
        if isinstance(form, str):
            raise TypeError(f"{init.form} is not for {self.name}")  # the pre-flight has refused it
        return form()


def _runs(*forwards: Any) -> Callable[[Site], bool]:
    """Recognises modules by the exact operation that they run."""

    def matches(site: Site) -> bool:
        return site.parameter is None and type(site.base).forward in forwards

    return matches


# ---- how a layer is recognised, and what can be wrong with it ------------------------------------


def plain_problem(weight: Any) -> str | None:
    """Why a weight is not a plain tensor of a dtype that LoRAM computes in, or None."""
    if type(weight.data) is torch.Tensor and weight.dtype in _DTYPES:
        return None
    return (
        f"its weight is {weight.dtype} in a {type(weight).__name__}, and such quantised weights "
        "are not supported: expected float32, float64, bfloat16 or float16. Load the base "
        "unquantised, or leave the layer out"
    )


_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def _plain(site: Site) -> str | None:
    return plain_problem(site.base.weight)


def _is_output_projection(site: Site) -> bool:
    return site.parameter is None and isinstance(site.base, NonDynamicallyQuantizableLinear)


def _is_linear(site: Site) -> bool:
    return _runs(nn.Linear.forward)(site) and not _is_output_projection(site)


def _only_through_attention(site: Site) -> str:
    return (
        "it is the output projection of a MultiheadAttention, which reads its weight and never "
        "calls it: leave it out, or name the MultiheadAttention itself"
    )


def _is_scaled_embedding(site: Site) -> bool:
    """A subclass with its own forward, as Gemma's and Bart's, whose rows come scaled."""
    return (
        site.parameter is None
        and isinstance(site.base, nn.Embedding)
        and type(site.base).forward is not nn.Embedding.forward
        and hasattr(site.base, "embed_scale")
    )


def _embedding_problem(site: Site) -> str | None:
    base = site.base
    if base.max_norm is not None:
        return (
            f"max_norm={base.max_norm} makes every look-up rescale the base's rows in place: set "
            "max_norm to None, or leave the layer out"
        )
    if base.sparse:
        return "sparse=True gives sparse gradients, which the factors can't have: set it to False"
    if getattr(base, "_hf_tp_plan", None) is not None:
        return "it is sharded over tensor-parallel ranks: leave it out, or load without a tp_plan"
    return plain_problem(base.weight)


@torch.no_grad()
def _scaled_embedding_problem(site: Site) -> str | None:
    """That the rows are just scaled is tried, since the code is the model's own."""
    base = site.base
    problem = _embedding_problem(site)
    if problem is not None or base.weight.is_meta or base.weight.numel() == 0:
        return problem
    row = int(base.padding_idx == 0)
    got = base(torch.tensor([row], device=base.weight.device))[0]
    expected = base.weight[row] * torch.as_tensor(base.embed_scale).to(base.weight)
    if got.shape == expected.shape and torch.allclose(got.to(expected), expected, rtol=1e-2):
        return None
    return (
        "its forward pass is not a row of its weight times embed_scale, so the update would not "
        "fit: leave it out"
    )


def _convolution_problem(site: Site) -> str | None:
    base = site.base
    for name, plain in (("groups", 1), ("padding_mode", "zeros")):
        value = getattr(base, name)
        if value != plain:
            return f"{name}={value!r}, and PEFT's LoRA convolution has no such: leave it out"
    if any(step != 1 for step in base.dilation):
        return f"dilation={base.dilation}, and PEFT's LoRA convolution drops it: leave it out"
    return plain_problem(base.weight)


def _attention_problem(site: Site) -> str | None:
    base = site.base
    if not base._qkv_same_embed_dim:
        return "its query, key and value differ in width, which PEFT does not adapt: leave it out"
    return plain_problem(base.in_proj_weight)


def _parameter_problem(site: Site) -> str | None:
    weight = getattr(site.base, str(site.parameter))
    if weight.ndim not in (2, 3):
        return f"it has {weight.ndim} axes, and PEFT adapts 2 or 3: leave it out"
    return plain_problem(weight)


def _is_matrix(site: Site) -> bool:
    return site.parameter is not None and getattr(site.base, site.parameter).ndim != 3


def _is_stack(site: Site) -> bool:
    return site.parameter is not None and getattr(site.base, site.parameter).ndim == 3


# ---- how weights and updates are turned ----------------------------------------------------------


def _transposed(site: Site, matrix: Tensor) -> Tensor:
    return matrix.T


def _flattened(site: Site, kernels: Tensor) -> Tensor:
    return kernels.flatten(1)


def _as_kernels(site: Site, delta: Tensor) -> Tensor:
    return delta.view(site.base.weight.shape)


def _as_parameter(site: Site, delta: Tensor) -> Tensor:
    """PEFT adds it to the parameter as it is, so it has the parameter's dtype."""
    return delta.to(getattr(site.base, str(site.parameter)))


def _experts(site: Site, stack: Tensor) -> Tensor:
    """(experts, out, in), or (experts, in, out) if the module says so, as PEFT reads it."""
    return stack.mT if getattr(site.base, "is_transposed", False) else stack


def _as_experts(site: Site, delta: Tensor) -> Tensor:
    return _as_parameter(site, _experts(site, delta))


# ---- the table -----------------------------------------------------------------------------------

_EACH_FORWARD = (
    "PEFT merges and unmerges it in every forward pass; loram then puts the base's own tensors "
    "back, so it stays bit for bit"
)
_TWICE = "PEFT 0.21 applies twice the update of a plain LoRA to its output projection: use --merge"
_NO_MIXING = "PEFT refuses `adapter_names` on it"
_NO_SUM = "PEFT has no weighted sums of adapters on it: leave the layer out"


def _convolution(name: str, forward: Any, combine: str = "") -> Kind:
    return Kind(
        name=name,
        matches=_runs(forward),
        problem=_convolution_problem,
        note="W is (out, in · kernel); groups = 1, dilation = 1, zero padding; others are refused",
        matrix=_flattened,
        stored=_as_kernels,
        place=CONVOLUTION,
        deviation=ConvolutionDeviation,
        combine=combine,
    )


def _quantised(
    name: str, is_it: Callable[[Any], bool], weight_of: Callable[[Any], Tensor], **row: Any
) -> Kind:
    """A row for layers that a backend quantises, by its own reading of the weight."""
    common: dict[str, Any] = {"problem": _nothing_wrong, "merge": quantised.REQUANTISES}
    return Kind(
        name=name,
        matches=_layers(is_it),
        matrix=lambda site, _: weight_of(site.base),
        residual=quantised.RESIDUAL_REQUANTISES,
        **(common | row),
    )


def _refused(name: str, is_it: Callable[[Any], bool], reason: str) -> Kind:
    """A row that is only there to give the reason."""
    return Kind(
        name=name,
        matches=_layers(is_it),
        problem=_nothing_wrong,
        deviation=reason,
        residual=reason,
    )


def _layers(is_it: Callable[[Any], bool]) -> Callable[[Site], bool]:
    return lambda site: site.parameter is None and is_it(site.base)


def _nothing_wrong(site: Site) -> None:
    return None


# The first row that matches counts: a row for a special weight goes before the one for its layer.
KINDS: tuple[Kind, ...] = (
    _quantised(
        "bitsandbytes 4-bit",
        quantised.is_bnb_4bit,
        quantised.bnb_4bit,
        deviation=quantised.Bnb4bitVariant,
        package="bitsandbytes",
    ),
    _quantised(
        "bitsandbytes 8-bit",
        quantised.is_bnb_8bit,
        quantised.bnb_8bit,
        package="bitsandbytes",
    ),
    _quantised(
        "torchao weight-only",
        quantised.is_torchao,
        quantised.torchao,
        problem=lambda site: quantised.torchao_problem(site.base),
        note="int4 and quantised activations are refused",
        package="torchao",
    ),
    _quantised(
        "HQQ",
        quantised.is_hqq,
        quantised.hqq,
        weight="W_q",
        mixed="PEFT's mixed batches of HQQ layers know plain LoRA only",
        package="hqq",
    ),
    _refused("AWQ", quantised.is_awq, quantised.OWN_PRODUCT),
    _quantised(
        "GPTQ",
        quantised.is_gptq,
        quantised.gptq,
        problem=lambda site: quantised.gptq_problem(site.base),
        note="of GPT-QModel, with a kernel that gives its weight back",
        weight="qweight",
        merge="PEFT does not merge into GPTQ layers",
        mixed="PEFT has no mixed batches of GPTQ layers",
        combine=_NO_SUM,
        package="gptqmodel",
    ),
    *(_refused(row.name, row.has, row.reason) for row in quantised.FOREIGN),
    _refused("fp8 weight", quantised.is_fp8, quantised.UNREADABLE),
    Kind(
        name="Linear",
        matches=_is_linear,
        problem=_plain,
        residual=ResidualVariant,
    ),
    Kind(
        name="Conv1D",
        matches=_runs(Conv1D.forward),
        problem=_plain,
        note="of GPT-2: a Linear that stores Wᵀ",
        matrix=_transposed,
        stored=_transposed,
        residual=ResidualVariant,
    ),
    Kind(
        name="Embedding",
        matches=_runs(nn.Embedding.forward),
        problem=_embedding_problem,
        note="W is (width, vocabulary); the row at `padding_idx` is never changed; no dropout, as "
        "in PEFT; `max_norm` is refused",
        matrix=_transposed,
        stored=_transposed,
        place=EMBEDDING,
        deviation=EmbeddingDeviation,
    ),
    Kind(
        name="scaled Embedding",
        matches=_is_scaled_embedding,
        problem=_scaled_embedding_problem,
        note="of Gemma and Bart: rows times `embed_scale`",
        matrix=_transposed,
        stored=_transposed,
        place=EMBEDDING,
        deviation=EmbeddingDeviation,
    ),
    _convolution("Conv1d", nn.Conv1d.forward, _NO_SUM),
    _convolution("Conv2d", nn.Conv2d.forward),
    _convolution("Conv3d", nn.Conv3d.forward, _NO_SUM),
    Kind(
        name="MultiheadAttention",
        matches=_runs(nn.MultiheadAttention.forward),
        problem=_attention_problem,
        note="the stacked query, key and value, and the output projection with it; no dropout, as "
        "in PEFT",
        weight="in_proj_weight",
        deviation=AttentionDeviation,
        merge=_EACH_FORWARD,
        mixed=_NO_MIXING,
        export=_TWICE,
    ),
    Kind(
        name="MultiheadAttention.out_proj",
        matches=_is_output_projection,
        problem=_only_through_attention,
        note="only with its MultiheadAttention, which reads the weight itself",
        deviation=OutputProjectionDeviation,
        merge=_EACH_FORWARD,
        mixed=_NO_MIXING,
        export=_TWICE,
    ),
    Kind(
        name="parameter (n, m)",
        matches=_is_matrix,
        problem=_parameter_problem,
        note="by `target_parameters`",
        stored=_as_parameter,
        deviation=WeightDeviation,
        mixed=_NO_MIXING,
        combine=_NO_SUM,
    ),
    Kind(
        name="parameter (experts, n, m)",
        matches=_is_stack,
        problem=_parameter_problem,
        note="by `target_parameters`; also stored (experts, m, n); one β for the stack, from the "
        "mean of the experts' ν[B⁰A⁰]",
        matrix=_experts,
        stored=_as_experts,
        place=EXPERTS,
        deviation=WeightDeviation,
        mixed=_NO_MIXING,
        combine=_NO_SUM,
    ),
)


def site_of(layer: nn.Module) -> Site:
    """Where the adapters of a LoRA layer go; or of a layer that is to become one."""
    if isinstance(layer, ParamWrapper):
        return Site(layer.get_base_layer(), layer.parameter_name)
    return Site(layer.get_base_layer() if isinstance(layer, LoraLayer) else layer)


def kind_of(site: Site) -> Kind | None:
    """The row of a site; None if LoRAM knows no such layer."""
    return next((kind for kind in KINDS if kind.matches(site)), None)


def known(site: Site) -> Kind:
    """The row of a site.

    Raises:
        LoramError: LoRAM knows no such layer. The pre-flight has refused it before.
    """
    kind = kind_of(site)
    if kind is None:
        raise LoramError(f"LoRAM does not go on {type(site.base).__name__} layers. {LEAVE_OUT}")
    return kind
