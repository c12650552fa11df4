# pyright: reportPrivateUsage=false
"""The pre-flight: whether LoRAM can go on every target of a config, before any layer is touched.

All problems are found and reported at once, each with the layer, what it is and the way out.
"""

import copy
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from peft import LoraConfig
from peft.tuners.lora import LoraModel
from peft.tuners.lora.layer import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer, _maybe_include_all_linear_layers
from peft.utils.other import get_pattern_key
from torch import Tensor, nn

from loram.peft.errors import LoramError
from loram.peft.kinds import KINDS, LEAVE_OUT, Site, kind_of
from loram.peft.layers import LoraModule, frozen
from loram.peft.residual import removed_from
from loram.peft.spec import DEVIATION, RESIDUAL, LoramInit, parse
from loram.peft.start import beta_of

__all__ = ["check_layers", "check_neighbours", "plan", "report", "shared_weights", "targets_of"]

# Inits after which the base weight is no longer the pretrained one.
_REWRITING_INITS = ("pissa", "milora", "olora", "corda", "lora_ga", "loftq")

# Config fields that change the forward pass of a LoRA layer, and the form they work with.
_VARIANTS: dict[str, str | None] = {
    "use_dora": RESIDUAL,
    "arrow_config": None,
    "use_bdlora": None,
    "alora_invocation_tokens": None,
    "velora_config": None,
    "monteclora_config": None,
    "kasa_config": None,
}


def plan(
    tuner: LoraModel,
    model: nn.Module,
    config: LoraConfig,
    state_keys: Iterable[str],
    *,
    weigh: bool = True,
) -> dict[tuple[int, int], float]:
    """β of every target by (id of its weight, r), if LoRAM can go on all of them.

    Args:
        tuner: PEFT's LoraModel that is about to inject.
        model: the base model; only read.
        config: the adapter's, with a LoRAM string; not changed.
        state_keys: keys of a checkpoint that names the targets instead of the config; may be empty.
        weigh: compute β. Not when a checkpoint brings it.

    Raises:
        LoramError: it can't; lists every reason.
    """
    init = parse(config.init_lora_weights)
    assert init is not None
    targets = [
        (name, module, *_rank_and_scaling(config, name))
        for name, module in targets_of(tuner, model, config, state_keys)
    ]
    return _weigh(targets, model, config, init, weigh=weigh)


def check_layers(
    layers: Iterable[tuple[str, LoraModule]], adapter: str, config: LoraConfig, model: nn.Module
) -> dict[tuple[int, int], float]:
    """As `plan`, for LoRA layers that exist already: what `loram.apply_` asks first."""
    init = parse(config.init_lora_weights)
    assert init is not None
    targets = [
        (name, layer, layer.r[adapter], float(layer.scaling[adapter])) for name, layer in layers
    ]
    return _weigh(targets, model, config, init)


def _weigh(
    targets: Iterable[tuple[str, Any, int, float]],
    model: nn.Module,
    config: LoraConfig,
    init: LoramInit,
    *,
    weigh: bool = True,
) -> dict[tuple[int, int], float]:
    """β of (name, module, r, s), or one error with all that is wrong."""
    problems = _config_problems(config, init)
    betas: dict[tuple[int, int], float] = {}
    shared = shared_weights(model) if init.is_residual else set[int]()
    for name, module, r, scaling in targets:
        reason = _layer_problem(module, init, shared, weigh=weigh)
        if reason is None and weigh:
            try:
                betas[id(frozen(module)), r] = beta_of(module, r, init, scaling)
            except (ValueError, TypeError) as error:
                reason = str(error)
        if reason is not None:
            problems.append(f"{name}: {reason}")
    report(config.init_lora_weights, problems)
    return betas


def check_neighbours(
    model: nn.Module, configs: dict[str, Any], adapter: str, config: LoraConfig
) -> None:
    """Refuse two adapters on one base where one of them has rewritten it.

    Runs for every LoRA adapter, since any adapter is wrong on a base that a residual one rewrote.

    Raises:
        LoramError: they can't share the base.
    """
    init = parse(config.init_lora_weights)
    removed = next(filter(None, map(removed_from, model.modules())), None)
    if removed is not None:
        again = "a second injection" if removed.adapter == adapter else f"adapter {adapter!r}"
        raise LoramError(
            f"{again} on a base whose weights adapter {removed.adapter!r} (loram_residual) has "
            "rewritten: expected the pretrained weights. Call unload() or delete_adapter() first, "
            f"or use init_lora_weights={DEVIATION!r}, which leaves the base alone and shares it"
        )
    others = {n: c for n, c in configs.items() if n != adapter and isinstance(c, LoraConfig)}
    ours = sorted(n for n, c in others.items() if parse(c.init_lora_weights) is not None)
    if init is None:
        if ours and _rewrites(config):
            raise LoramError(
                f"init_lora_weights={config.init_lora_weights!r} rewrites the base weights under "
                f"the LoRAM adapters {ours}, which would then be wrong: give it a base of its own"
            )
        return
    for name, other in others.items():
        if _rewrites(other):
            raise LoramError(
                f"adapter {name!r} (init_lora_weights={other.init_lora_weights!r}) has rewritten "
                "the base weights: LoRAM expects the pretrained ones. Export that adapter to plain "
                "LoRA first, or load the base model again"
            )
    if init.is_residual and others:
        raise LoramError(
            f"loram_residual rewrites the base, and adapters {sorted(others)} live on it: it must "
            f"be the only adapter. Use init_lora_weights={DEVIATION!r}, which shares the base"
        )


def _rewrites(config: LoraConfig) -> bool:
    return str(config.init_lora_weights).lower().startswith(_REWRITING_INITS)


def _layer_problem(
    module: nn.Module, init: LoramInit, shared: set[int], *, weigh: bool = True
) -> str | None:
    """Why LoRAM can't go on this module, or None."""
    if isinstance(module, LoraLayer):
        if module.merged:
            return "an adapter is merged into it: call unmerge_adapter() first"
        base: Any = module.get_base_layer()
    elif isinstance(module, BaseTunerLayer):
        return f"it is wrapped by another PEFT method ({type(module).__name__})"
    else:
        base = module
    site = Site(base)
    kind = kind_of(site)
    if kind is None:
        known = ", ".join(row.name for row in KINDS if not row.refusal(init))
        return (
            f"layer type {type(base).__name__} is not supported: LoRAM goes on {known}. {LEAVE_OUT}"
        )
    reason = kind.refusal(init) or kind.problem(site)
    if reason is not None:
        return f"{kind.name}: {reason}"
    if kind.weight not in base._parameters | base._buffers:
        return (
            "its weight is computed from other parameters (parametrized, or weight-normed): "
            "remove the parametrization, or leave it out"
        )
    weight = kind.parameter(site)
    if weight.is_meta and (weigh or init.is_residual):
        return "its weight is on the meta device, so has no values: load the base model first"
    if init.is_residual and _storage(weight) in shared:
        return (
            "its weight is shared with another module (tied embeddings?), which rewriting it would "
            f"change too: use init_lora_weights={DEVIATION!r}, or leave it out"
        )
    return None


def _config_problems(config: LoraConfig, init: LoramInit) -> list[str]:
    """Settings of a LoraConfig that don't go with the form, each with the way out."""
    problems: list[str] = []
    for name, form in _VARIANTS.items():
        if getattr(config, name, None) and form != init.form:
            way = f"use init_lora_weights={form!r}" if form else "leave one of the two out"
            problems.append(f"{name} does not go with the form {init.form}: {way}")
    if config.target_parameters:
        problems.append(
            f"target_parameters={config.target_parameters} is not supported yet: use target_modules"
        )
    if getattr(config, "ensure_weight_tying", False):
        problems.append(
            "ensure_weight_tying=True shares factors between layers, whose β differ: use False"
        )
    if init.is_residual and config.layer_replication:
        problems.append(
            "layer_replication shares weights between layers, and loram_residual would rewrite "
            f"them more than once: use init_lora_weights={DEVIATION!r}"
        )
    return problems


def _rank_and_scaling(config: LoraConfig, name: str) -> tuple[int, float]:
    """r and s of a layer, by the config's patterns."""
    ranks, alphas = config.rank_pattern or {}, config.alpha_pattern or {}
    r: int = ranks.get(get_pattern_key(list(ranks), name), config.r)
    alpha: float = alphas.get(get_pattern_key(list(alphas), name), config.lora_alpha)
    return r, alpha / (math.sqrt(r) if config.use_rslora else r)


def targets_of(
    tuner: LoraModel, model: nn.Module, config: LoraConfig, state_keys: Iterable[str]
) -> list[tuple[str, nn.Module]]:
    """The modules that PEFT is going to adapt, by its own matching."""
    modules = [
        (name, module)
        for name, module in model.named_modules()
        if name and not any(part.startswith(("lora_", "base_layer")) for part in name.split("."))
    ]
    from_keys = {key.rsplit(".lora_", 1)[0] for key in state_keys}
    if from_keys:
        return [(name, module) for name, module in modules if name in from_keys]
    # A copy: PEFT's own resolution writes into the config.
    resolved: Any = copy.deepcopy(config)
    resolved = tuner._prepare_adapter_config(resolved, tuner.get_model_config(model))
    resolved = _maybe_include_all_linear_layers(resolved, model)
    return [(n, m) for n, m in modules if tuner._check_target_module_exists(resolved, n)]


def shared_weights(model: nn.Module) -> set[int]:
    """Storages that more than one parameter name of the model points to."""
    counts = Counter(
        _storage(p) for _, p in model.named_parameters(remove_duplicate=False) if not p.is_meta
    )
    return {pointer for pointer, count in counts.items() if count > 1}


def _storage(weight: Tensor) -> int:
    """Where a weight's values are; under ZeRO-3 they are elsewhere, and the weight is itself."""
    return weight.untyped_storage().data_ptr() or id(weight)


def report(value: object, problems: list[str]) -> None:
    """Raise one LoramError with the problems of a config, if there are any."""
    if not problems:
        return
    shown = "\n  ".join(problems[:8])
    more = f"\n  and {len(problems) - 8} more" if len(problems) > 8 else ""
    raise LoramError(
        f"init_lora_weights={value!r} can't be used here; nothing was changed.\n  {shown}{more}"
    )
