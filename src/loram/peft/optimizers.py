# pyright: reportPrivateUsage=false
"""PEFT's optimisers that read A or B themselves: they see A⁰ + dA and B⁰ + dB.

LoRA-FA (arXiv 2308.03303) projects ∇B by (AAᵀ)⁻¹ with A frozen, and the Riemannian preconditioner
(arXiv 2402.02347) multiplies by (BᵀB)⁻¹ and (AAᵀ)⁻¹. In the deviation form the parameters hold dA
and dB, so both would divide by next to nothing. With what is here, a run in the deviation form is
the run in absolute factors. LoRA+ (arXiv 2402.12354) reads no factor, and needs nothing.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import peft.optimizers
import peft.optimizers.lorafa
import peft.optimizers.riemannian
import torch
from peft.optimizers.lorafa import LoraFAOptimizer
from torch import Tensor, nn

from loram.peft.errors import LoramError
from loram.peft.layers import (
    LoraModule,
    deviations,
    factor_matrices,
    factor_weights,
    lora_layers,
)
from loram.peft.wraps import Function

__all__ = ["WRAPS"]


class Deviation(NamedTuple):
    """A parameter that holds dA or dB, and whose it is.

    Attributes:
        parameter: dA (r, m) or dB (n, r).
        layer: the LoRA layer.
        adapter: on it.
        is_A: which of the two.
    """

    parameter: nn.Parameter
    layer: LoraModule
    adapter: str
    is_A: bool

    def check(self) -> None:
        """Refuse a layer whose factors are not stored as the matrices that an optimiser reads.

        Raises:
            LoramError: such a layer.
        """
        if (
            factor_matrices(self.layer, self.adapter)[0]
            is not factor_weights(self.layer, self.adapter)[0]
        ):
            raise LoramError(
                "this optimiser reads A and B as matrices, and a "
                f"{type(self.layer).__name__} layer stores them otherwise: leave the layer out of "
                "the adapter, or use another optimiser"
            )

    def absolute(self) -> Tensor:
        """A⁰ + dA (r, m) or B⁰ + dB (n, r) as they are now, in float32 or float64.

        Raises:
            LoramError: the adapter has gone.
        """
        parts = deviations(self.layer, self.adapter)
        if parts is None:
            raise LoramError(
                f"the optimiser was made for adapter {self.adapter!r} in the deviation form, which "
                "is no longer there: make the optimiser again"
            )
        origin = parts.anchor.A0 if self.is_A else parts.anchor.B0
        return origin + self.parameter.detach().to(origin.dtype)


class AbsoluteFactor:
    """What PEFT's preconditioner asks of a parameter, answered with A⁰ + dA or B⁰ + dB."""

    def __init__(self, deviation: Deviation) -> None:
        self._deviation = deviation

    @property
    def grad(self) -> Tensor | None:
        """Of dA, which is that of A; the preconditioner writes into it."""
        return self._deviation.parameter.grad

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameter."""
        return self._deviation.parameter.dtype

    def detach(self) -> Tensor:
        """The absolute factor now."""
        return self._deviation.absolute()


def _found(model: nn.Module) -> dict[nn.Parameter, Deviation]:
    """Every parameter of a model that holds a deviation."""
    return {
        parameter: Deviation(parameter, layer, adapter, is_A)
        for _, layer in lora_layers(model)
        for adapter in layer.r
        if deviations(layer, adapter) is not None
        for parameter, is_A in zip(factor_weights(layer, adapter), (True, False), strict=True)
    }


# ---- Riemannian ----------------------------------------------------------------------------------


def _collect_lora_pairs(original: Function, model: nn.Module) -> list[tuple[Any, Any]]:
    found = _found(model)

    def seen(parameter: nn.Parameter) -> Any:
        deviation = found.get(parameter)
        if deviation is None:
            return parameter
        deviation.check()
        return AbsoluteFactor(deviation)

    return [(seen(a), seen(b)) for a, b in original(model)]


# ---- LoRA-FA -------------------------------------------------------------------------------------

# The frozen dA of each optimiser made by PEFT's function; those of another making have no entry.
_frozen: WeakKeyDictionary[LoraFAOptimizer, list[Deviation]] = WeakKeyDictionary()


def _create_lorafa_optimizer(
    original: Function, model: nn.Module, *args: Any, **kwargs: Any
) -> LoraFAOptimizer:
    frozen = [deviation for deviation in _found(model).values() if deviation.is_A]
    for deviation in frozen:
        deviation.check()  # before PEFT freezes anything
    optimizer: LoraFAOptimizer = original(model, *args, **kwargs)
    _frozen[optimizer] = frozen
    return optimizer


@torch.no_grad()
def _lorafa_step(
    original: Function, self: LoraFAOptimizer, closure: Callable[[], Any] | None = None
) -> Any:
    if self not in _frozen:
        _refuse_dead(self)
        _frozen[self] = []
    loss = None if closure is None else closure()  # before the swap: it runs the model
    with _swapped_in(_frozen[self]):
        original(self)
    return loss


@contextmanager
def _swapped_in(found: Iterable[Deviation]) -> Generator[None]:
    """The parameters hold their absolute values inside; they are then bit for bit as before."""
    kept: list[tuple[nn.Parameter, Tensor]] = []
    try:
        for deviation in found:
            parameter = deviation.parameter
            kept.append((parameter, parameter.data))
            parameter.data = deviation.absolute().to(parameter.dtype)
        yield
    finally:
        for parameter, data in kept:
            parameter.data = data


def _refuse_dead(optimizer: LoraFAOptimizer) -> None:
    """Refuse an optimiser that we did not see being made, over a dA: a frozen A of zeros is one."""
    for group in optimizer.param_groups:
        for name, parameter in zip(group.get("names", ()), group["params"], strict=False):
            if "lora_A" in name and not parameter.requires_grad and not parameter.any():
                raise LoramError(
                    f"LoRA-FA projects by a frozen A, and {name} is all zero. If this is a LoRAM "
                    "adapter, make the optimiser by peft.optimizers.create_lorafa_optimizer, "
                    "imported after loram"
                )


WRAPS: tuple[tuple[Any, str, Function], ...] = (
    (peft.optimizers.riemannian, "_collect_lora_pairs", _collect_lora_pairs),
    (peft.optimizers.lorafa, "create_lorafa_optimizer", _create_lorafa_optimizer),
    (peft.optimizers, "create_lorafa_optimizer", _create_lorafa_optimizer),
    (LoraFAOptimizer, "step", _lorafa_step),
)
