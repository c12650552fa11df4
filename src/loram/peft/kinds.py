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
from peft.tuners.lora.layer import LoraLayer, LoraVariant
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from transformers.pytorch_utils import Conv1D

from loram.peft.factors import LINEAR, Place
from loram.peft.spec import DEVIATION, LoramInit
from loram.peft.variant import DeviationVariant, ResidualVariant

__all__ = ["KINDS", "LEAVE_OUT", "Kind", "Site", "kind_of", "site_of"]

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
        weight: attribute that holds the frozen weight.
        matrix: the weight as W (n, m), or (experts, n, m): a view if it can be, or a copy.
        stored: a (n, m) update in the shape in which the layer stores its weight.
        place: where PEFT keeps the factors.
        deviation: what PEFT consults in the forward pass of the deviation form.
        residual: what it consults in that of the residual form; or why there is none, with the way
            out.
        merge: "" if merging and unmerging are PEFT's own to rounding; else what is different.
        mixed: "" if `adapter_names` batches work; else why they are refused.
        export: "" if the adapter can be written as plain LoRA; else why not, with the way out.
        package: that must be installed for there to be such layers; "" for none.
    """

    name: str
    matches: Callable[[Site], bool]
    problem: Callable[[Site], str | None]
    weight: str = "weight"
    matrix: Callable[[Site, Tensor], Tensor] = _as_it_is
    stored: Callable[[Site, Tensor], Tensor] = _as_it_is
    place: Place = LINEAR
    deviation: type[LoraVariant] = DeviationVariant
    residual: type[LoraVariant] | str = _ONLY_PLAIN
    merge: str = ""
    mixed: str = ""
    export: str = ""
    package: str = ""

    def parameter(self, site: Site) -> Any:
        """The frozen weight as the layer stores it."""
        return getattr(site.base, site.parameter or self.weight)

    def read(self, site: Site) -> Tensor:
        """The frozen weight as W (n, m), or (experts, n, m)."""
        return self.matrix(site, self.parameter(site))

    def refusal(self, init: LoramInit) -> str | None:
        """Why the form of a request can't go on any such layer, or None."""
        return self.residual if init.is_residual and isinstance(self.residual, str) else None

    def variant(self, init: LoramInit) -> LoraVariant:
        """What PEFT consults for a request in place of its own sBAx."""
        if not init.is_residual:
            return self.deviation()
        if isinstance(self.residual, str):
            raise TypeError(f"no residual form on {self.name}")  # the pre-flight has refused it
        return self.residual()


def _runs(*forwards: Any) -> Callable[[Site], bool]:
    """Recognises modules by the exact operation that they run."""

    def matches(site: Site) -> bool:
        return site.parameter is None and type(site.base).forward in forwards

    return matches


def _transposed(site: Site, matrix: Tensor) -> Tensor:
    return matrix.T


def plain_problem(weight: Any) -> str | None:
    """Why a weight is not a plain floating-point tensor, or None."""
    if type(weight.data) is torch.Tensor and weight.is_floating_point():
        return None
    return (
        f"its weight is {weight.dtype} in a {type(weight).__name__}, and quantised weights are "
        "not supported yet: expected float32, float64, bfloat16 or float16. Load the base "
        "unquantised, or leave the layer out"
    )


def _linear_problem(site: Site) -> str | None:
    if isinstance(site.base, NonDynamicallyQuantizableLinear):
        return (
            "it is the output projection of a MultiheadAttention, which reads its weight and never "
            "calls it: leave it out"
        )
    return plain_problem(site.base.weight)


# The first row that matches counts: a row for a special weight goes before the one for its layer.
KINDS: tuple[Kind, ...] = (
    Kind(
        name="Linear",
        matches=_runs(nn.Linear.forward),
        problem=_linear_problem,
        residual=ResidualVariant,
    ),
    Kind(
        name="Conv1D",
        matches=_runs(Conv1D.forward),
        problem=lambda site: plain_problem(site.base.weight),
        matrix=_transposed,
        stored=_transposed,
        residual=ResidualVariant,
    ),
)


def site_of(layer: nn.Module) -> Site:
    """Where the adapters of a LoRA layer go; or of a layer that is to become one."""
    base = layer.get_base_layer() if isinstance(layer, LoraLayer) else layer
    return Site(base)


def kind_of(site: Site) -> Kind | None:
    """The row of a site; None if LoRAM knows no such layer."""
    return next((kind for kind in KINDS if kind.matches(site)), None)
