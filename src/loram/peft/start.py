"""Starting a LoRAM adapter on one PEFT layer: its factors, its record, and the base if it must."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeAlias, cast

import torch
from peft.utils.integrations import gather_params_ctx
from torch import Tensor, nn

from loram.peft.kinds import Site, known, site_of
from loram.peft.layers import (
    LoraModule,
    factor_matrices,
    factor_weights,
    frozen,
    kind_of_layer,
    lora_layers,
    padding_of,
    true_delta_weight,
)
from loram.peft.record import ATTRIBUTE, BasisRecord, record_of
from loram.peft.residual import removed_from, take_out
from loram.peft.spec import LoramInit
from loram.peft.tracking import reference_magnitude
from loram.peft.variant import LoramVariant
from loram.peft.wraps import Function, install
from loram.schemes.loram import Gain, beta, beta_for_product

__all__ = [
    "Betas",
    "Weighed",
    "beta_of",
    "fill",
    "loading",
    "planned",
    "settle_casts",
    "start",
    "stop",
    "tell_the_true_delta",
    "weights_come_from_a_checkpoint",
]


class Weighed(NamedTuple):
    """β of a frozen weight, which is kept alive with it: else another object could get its id."""

    beta: float
    weight: Any


Betas: TypeAlias = dict[tuple[int, int], Weighed]
"""By the id of the weight, and r."""

_loading: ContextVar[bool] = ContextVar("loram_loading", default=False)
_planned: ContextVar[Betas | None] = ContextVar("loram_planned", default=None)


@contextmanager
def loading() -> Generator[None]:
    """Adapters made inside get their β from a checkpoint: no gain is evaluated, no base changed."""
    token = _loading.set(True)
    try:
        yield
    finally:
        _loading.reset(token)


def weights_come_from_a_checkpoint() -> bool:
    """Whether we are inside `loading()`."""
    return _loading.get()


@contextmanager
def planned(betas: Betas) -> Generator[None]:
    """Hands the β that the pre-flight computed, by (id of the weight, r), to `start`."""
    token = _planned.set(betas)
    try:
        yield
    finally:
        _planned.reset(token)


def beta_of(site: Site, r: int, init: LoramInit, scaling: float) -> float:
    """β for a frozen weight; errors as `loram.beta`.

    A stack of experts has one β, at which ν[B⁰A⁰] is the mean of what the experts would have each.
    Reads the whole weight also under ZeRO-3, by PEFT's own gathering. The scaling s matters only to
    an initialisation that is tracked.
    """
    kind = known(site)
    with gather_params_ctx(kind.parameter(site)):
        W = kind.read(site)
        if W.ndim == 2:
            return _beta(site, W, r, init, scaling)
        betas = [_beta(site, expert, r, init, scaling) for expert in W]
    return (sum(each**4 for each in betas) / len(betas)) ** 0.25


def _beta(site: Site, W: Tensor, r: int, init: LoramInit, scaling: float) -> float:
    rest: Any = {"basis": init.basis, "statistic": init.statistic, "seed": init.seed}
    if init.tracked is None:
        return beta(W, r, gain=cast(Gain, init.gain), **rest)
    magnitude = reference_magnitude(site.base, W, r, scaling=scaling, reference=init.tracked)
    n, m = W.shape
    return beta_for_product(magnitude, n, m, r, **rest)


@torch.no_grad()
def start(layer: LoraModule, adapter: str, init: LoramInit) -> None:
    """Set the adapter's factors to their starting point, and note β, basis and seed beside them.

    From here on PEFT consults LoRAM's variant of the layer, unless it has one already (DoRA, which
    runs the residual form by itself).

    Deviation form: dA = dB = 0. Residual form: A = A⁰, B = B⁰ and W ← W − sB⁰A⁰. While a checkpoint
    is loaded, the factors are zero and β is NaN until the file's come: nothing else is touched.
    """
    A, B = factor_weights(layer, adapter)
    r = layer.r[adapter]
    waiting = weights_come_from_a_checkpoint() or A.is_meta
    if waiting:
        b = float("nan")
    else:
        plan = _planned.get() or {}
        weighed = plan.get((id(frozen(layer)), r))
        if weighed is None:
            b = beta_of(site_of(layer), r, init, float(layer.scaling[adapter]))
        else:
            b = weighed.beta
    record = BasisRecord(b, init.basis, init.seed, r, padding_of(layer))
    _attach(layer, adapter, record, device=A.device)
    if isinstance(layer.lora_variant.get(adapter), LoramVariant | None):
        layer.lora_variant[adapter] = kind_of_layer(layer).variant(init)
    tell_the_true_delta(type(layer))
    nn.init.zeros_(A)
    nn.init.zeros_(B)
    if init.is_residual and not waiting:
        with gather_params_ctx(frozen(layer)):
            take_out(layer, adapter, record, keep_base=init.keep_base)
        fill(layer, adapter)


def _attach(layer: LoraModule, adapter: str, record: BasisRecord, *, device: torch.device) -> None:
    if not isinstance(getattr(layer, ATTRIBUTE, None), nn.ModuleDict):
        setattr(layer, ATTRIBUTE, nn.ModuleDict())
        # So that PEFT moves it with the adapter and deletes it with the adapter.
        layer.other_param_names = (*layer.other_param_names, ATTRIBUTE)
    if device.type != "meta":
        record = record.to(device)
    getattr(layer, ATTRIBUTE)[adapter] = record


@torch.no_grad()
def fill(layer: LoraModule, adapter: str) -> None:
    """A ← A⁰, B ← B⁰ if that is what was taken out of this layer for this adapter.

    Called again once PEFT has cast the factors to the base's dtype and, by default, back to
    float32: over a bfloat16 base they would else differ from what was taken out by a part in 256.
    """
    removed = removed_from(layer)
    if removed is None or removed.adapter != adapter:
        return
    A, B = factor_matrices(layer, adapter)
    anchor = removed.record.anchor(B.shape[0], A.shape[1], A.shape[0], like=A)
    A.copy_(anchor.A0)
    B.copy_(anchor.B0)


def stop(layer: LoraModule, adapter: str) -> None:
    """A plain adapter takes the place of a LoRAM one of the same name."""
    if record_of(layer, adapter) is not None:
        del getattr(layer, ATTRIBUTE)[adapter]
        layer.lora_variant.pop(adapter, None)


def settle_casts(model: nn.Module) -> None:
    """Turn off PEFT's cast of the input to the factors' dtype where all adapters are LoRAM's.

    The product reads x in the base's dtype: the copy would be waste. On again where a plain adapter
    has joined.
    """
    for _, layer in lora_layers(model):
        if isinstance(getattr(layer, ATTRIBUTE, None), nn.ModuleDict):
            variants = (layer.lora_variant.get(name) for name in layer.r)
            layer.cast_input_dtype_enabled = not all(isinstance(v, LoramVariant) for v in variants)


def tell_the_true_delta(layer_class: type) -> None:
    """Make `get_delta_weight` of a PEFT layer class know LoRAM adapters; those of others pass.

    PEFT's own multiplies the factors as they are, whatever the variant: merging on some backends,
    `convert_to_lora` and `add_weighted_adapter` would be silently wrong.
    """
    owner = next((c for c in layer_class.__mro__ if "get_delta_weight" in c.__dict__), None)
    if owner is not None:  # GPTQ layers have none: PEFT does not merge into them
        install(owner, "get_delta_weight", _get_delta_weight)


def _get_delta_weight(
    original: Function, self: LoraModule, adapter: str, *args: Any, **kwargs: Any
) -> Tensor:
    delta = true_delta_weight(self, adapter)
    return original(self, adapter, *args, **kwargs) if delta is None else delta
