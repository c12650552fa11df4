# pyright: reportPrivateUsage=false
"""The pre-flight: whether LoRAM can go on every target of a config, before any layer is touched.

All problems are found and reported at once, each with the layer, what it is and the way out.
"""

import copy
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from peft import LoraConfig
from peft.tuners.lora import LoraModel
from peft.tuners.lora.layer import LoraLayer, ParamWrapper
from peft.tuners.lora.layer import MultiheadAttention as Attention
from peft.tuners.tuners_utils import BaseTunerLayer, _maybe_include_all_linear_layers
from peft.utils.other import get_pattern_key
from torch import Tensor, nn

from loram.peft.errors import LoramError
from loram.peft.kinds import KINDS, LEAVE_OUT, Site, kind_of, known, plain_problem, site_of
from loram.peft.layers import LoraModule
from loram.peft.residual import removed_from
from loram.peft.spec import DEVIATION, RESIDUAL, LoramInit, parse
from loram.peft.start import Betas, Weighed, beta_of

__all__ = [
    "check_layers",
    "check_neighbours",
    "plan",
    "rank_and_scaling",
    "report",
    "shared_weights",
    "targets_of",
]

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
) -> Betas:
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
        target
        for name, module in targets_of(tuner, model, config, state_keys)
        for target in _in_module(name, module, *rank_and_scaling(config, name))
    ]
    whole = {id(target.module) for target in targets}
    parameters = _parameters(model, config)
    twice = [
        f"{name}: its module is in target_modules: name one of the two"
        for name, module, _ in parameters
        if id(module) in whole
    ]
    report(config.init_lora_weights, twice)
    targets += [
        _Target(name, module, Site(_innermost(module), parameter), *rank_and_scaling(config, name))
        for name, module, parameter in parameters
    ]
    return _weigh(targets, model, config, init, weigh=weigh)


def check_layers(
    layers: Iterable[tuple[str, LoraModule]], adapter: str, config: LoraConfig, model: nn.Module
) -> Betas:
    """As `plan`, for LoRA layers that exist already: what `loram.apply_` asks first."""
    init = parse(config.init_lora_weights)
    assert init is not None
    found = list(layers)
    within = {
        id(layer.get_base_layer().out_proj) for _, layer in found if isinstance(layer, Attention)
    }
    targets = [
        _Target(
            name,
            layer,
            site_of(layer),
            layer.r[adapter],
            float(layer.scaling[adapter]),
            id(layer) in within,
        )
        for name, layer in found
    ]
    return _weigh(targets, model, config, init)


class _Target(NamedTuple):
    """A weight that an adapter is to go on.

    Attributes:
        name: of the layer.
        module: the layer; PEFT's, if it is one already.
        site: the weight.
        r: rank.
        scaling: s.
        within: it is a MultiheadAttention's output projection, adapted with it.
    """

    name: str
    module: nn.Module
    site: Site
    r: int
    scaling: float
    within: bool = False


def _in_module(name: str, module: nn.Module, r: int, scaling: float) -> Iterator[_Target]:
    """The weights that PEFT adapts in a module that is targeted: one, or two in an attention."""
    site = site_of(module)
    yield _Target(name, module, site, r, scaling)
    if isinstance(site.base, nn.MultiheadAttention):
        projection: Any = site.base.out_proj
        yield _Target(f"{name}.out_proj", projection, site_of(projection), r, scaling, True)


def _weigh(
    targets: Iterable[_Target],
    model: nn.Module,
    config: LoraConfig,
    init: LoramInit,
    *,
    weigh: bool = True,
) -> Betas:
    """β of the targets, or one error with all that is wrong."""
    problems = _config_problems(config, init)
    betas: Betas = {}
    shared = shared_weights(model) if init.is_residual else set[int]()
    for target in targets:
        site, r = target.site, target.r
        reason = _layer_problem(target, init, shared, weigh=weigh)
        if reason is None and weigh:
            try:
                weight = known(site).parameter(site)
                betas[id(weight), r] = Weighed(beta_of(site, r, init, target.scaling), weight)
            except (ValueError, TypeError) as error:
                reason = str(error)
        if reason is not None:
            problems.append(f"{target.name}: {reason}")
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
    target: _Target, init: LoramInit, shared: set[int], *, weigh: bool = True
) -> str | None:
    """Why LoRAM can't go on this weight, or None."""
    module, site = target.module, target.site
    if isinstance(module, LoraLayer):
        if module.merged:
            return "an adapter is merged into it: call unmerge_adapter() first"
    elif isinstance(module, BaseTunerLayer):
        return f"it is wrapped by another PEFT method ({type(module).__name__})"
    base = site.base
    kind = kind_of(site)
    if kind is None:
        others = ", ".join(row.name for row in KINDS if not row.refusal(init))
        return (
            f"layer type {type(base).__name__} is not supported: LoRAM goes on {others}. "
            f"{LEAVE_OUT}"
        )
    wrong = plain_problem(kind.parameter(site)) if target.within else kind.problem(site)
    reason = kind.refusal(init) or wrong
    if reason is not None:
        return f"{kind.name}: {reason}"
    if (site.parameter or kind.weight) not in base._parameters | base._buffers:
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
        problems += [
            f"{name}={getattr(config, name)} can't be had with target_parameters, which change the "
            "weight itself: leave one of the two out"
            for name in ("lora_dropout", "fan_in_fan_out")
            if getattr(config, name)
        ]
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


def rank_and_scaling(config: LoraConfig, name: str) -> tuple[int, float]:
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


def _parameters(model: nn.Module, config: LoraConfig) -> list[tuple[str, nn.Module, str]]:
    """(name with the parameter's, module, parameter) of every one that PEFT is going to adapt."""
    wanted = config.target_parameters or []
    found: list[tuple[str, nn.Module, str]] = []
    for path, module in model.named_modules():
        parts = path.split(".")
        if isinstance(module, ParamWrapper) or any(part.startswith("lora_") for part in parts):
            continue
        name = ".".join(part for part in parts if part != "base_layer")
        for parameter, _ in module.named_parameters(recurse=False):
            full = f"{name}.{parameter}"
            if any(full == key or full.endswith(f".{key}") for key in wanted):
                found.append((full, model.get_submodule(name), parameter))
    return found


def _innermost(module: nn.Module) -> nn.Module:
    return module.get_base_layer() if isinstance(module, BaseTunerLayer) else module


def shared_weights(model: nn.Module) -> set[int]:
    """Storages that more than one parameter name of the model points to."""
    counts = Counter(
        _storage(p) for _, p in model.named_parameters(remove_duplicate=False) if not p.is_meta
    )
    return {pointer for pointer, count in counts.items() if count > 1}


def _storage(weight: Tensor) -> int:
    """Where a weight's values are; under ZeRO-3 they are elsewhere, and the weight is itself."""
    if type(weight.data) is not Tensor:
        return id(weight)  # torchao's weights have no storage of their own
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
