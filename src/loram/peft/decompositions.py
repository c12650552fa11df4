# pyright: reportPrivateUsage=false
"""MiLoRA and LoRA-One in PEFT: plain LoRA adapters whose factors start from a decomposition.

Neither is in PEFT, so the strings `milora` and `lora_one` are ours. They behave as PEFT's own
spectral starts do: MiLoRA rewrites the base as PiSSA does, and again when its adapter is loaded;
LoRA-One keeps the base.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraModel
from peft.utils.integrations import gather_params_ctx
from torch import nn

from loram.peft.calibration import GRADIENT, gradient_of
from loram.peft.kinds import LEAVE_OUT, kind_of, site_of
from loram.peft.layers import LoraModule, base_weight, factor_weights
from loram.peft.preflight import rank_and_scaling, report, shared_weights, targets_of
from loram.peft.start import weights_come_from_a_checkpoint
from loram.schemes import lora_one, milora
from loram.schemes._factors import Factors
from loram.schemes._svd import check

__all__ = ["check_decomposed", "is_decomposition", "start_decomposed"]


def start_decomposed(layer: LoraModule, adapter: str, init: str) -> None:
    """Set an adapter's factors, and the base if the scheme rewrites it, to their starting point.

    Raises:
        ValueError: what the scheme says of the weight or its gradient.
    """
    with torch.no_grad(), gather_params_ctx(layer.get_base_layer().weight):
        DECOMPOSITIONS[init](layer, adapter)


def _start_milora(layer: LoraModule, adapter: str) -> None:
    W, scaling = base_weight(layer), float(layer.scaling[adapter])
    start = milora.factors(W, layer.r[adapter], scaling=scaling)
    # In the base's dtype, which is PEFT's for a new adapter: what is taken out is what is put in.
    start = Factors(B0=start.B0.to(W.dtype), A0=start.A0.to(W.dtype))
    wide = torch.promote_types(W.dtype, torch.float32)
    W.copy_(W.to(wide) - scaling * (start.B0.to(wide) @ start.A0.to(wide)))
    if not weights_come_from_a_checkpoint():
        _write(layer, adapter, start)


def _start_lora_one(layer: LoraModule, adapter: str) -> None:
    if weights_come_from_a_checkpoint():
        return
    base = layer.get_base_layer()
    _write(layer, adapter, lora_one.factors(gradient_of(base, "lora_one"), layer.r[adapter]))
    delattr(base, GRADIENT)


def _write(layer: LoraModule, adapter: str, start: Factors) -> None:
    A, B = factor_weights(layer, adapter)
    A.copy_(start.A0)
    B.copy_(start.B0)


DECOMPOSITIONS: dict[str, Callable[[Any, str], None]] = {
    "milora": _start_milora,
    "lora_one": _start_lora_one,
}
"""How each of our strings starts a layer."""


def is_decomposition(init: object) -> bool:
    """Whether `init_lora_weights` is one of these."""
    return isinstance(init, str) and init in DECOMPOSITIONS


def check_decomposed(
    tuner: LoraModel,
    model: nn.Module,
    config: LoraConfig,
    state_keys: Iterable[str],
    *,
    from_file: bool,
) -> None:
    """Before any layer is touched: whether the scheme can go on all of them.

    Args:
        tuner: PEFT's LoraModel that is about to inject.
        model: the base model; only read.
        config: the adapter's, with one of our strings.
        state_keys: keys of a checkpoint that names the targets; may be empty.
        from_file: the factors come from a checkpoint, so no gradient is needed.

    Raises:
        LoramError: it can't; lists every reason.
    """
    init = str(config.init_lora_weights)
    problems: list[str] = []
    shared = shared_weights(model) if init == "milora" else set[int]()
    for name, module in targets_of(tuner, model, config, state_keys):
        r, _ = rank_and_scaling(config, name)
        reason = _problem(module, init, r, shared, from_file=from_file)
        if reason is not None:
            problems.append(f"{name}: {reason}")
    report(init, problems)


def _problem(
    module: nn.Module, init: str, r: int, shared: set[int], *, from_file: bool
) -> str | None:
    site = site_of(module)
    kind = kind_of(site)
    if kind is None or isinstance(kind.residual, str):
        return (
            f"{init} goes on Linear and Conv1D layers with floating-point weights, got "
            f"{type(site.base).__name__}. {LEAVE_OUT}"
        )
    reason = kind.problem(site)
    weight = site.base.weight
    if reason is not None:
        return reason
    if init == "milora" and (weight.is_meta or weight.untyped_storage().data_ptr() in shared):
        return (
            "its weight is on the meta device or shared with another module, and MiLoRA rewrites "
            f"it. {LEAVE_OUT}"
        )
    try:
        if init == "milora":
            with gather_params_ctx(weight):
                check(kind.read(site), r)
        elif not from_file:
            lora_one.check_gradient(gradient_of(site.base, init), r)
    except ValueError as error:
        return str(error)
    return None
