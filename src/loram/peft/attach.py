"""PEFT adapters from a row of the methods table, for the rooms that do not know PEFT."""

import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from peft import (
    EvaConfig,
    LoraConfig,
    LoraGAConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
)
from peft.optimizers import create_loraplus_optimizer
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.loraga import get_target_modules
from peft.utils.error import NoMatchingPeftModuleError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from loram.methods import Method
from loram.peft.calibration import Calibration, calibrate, calibrate_eva, forget, resolved
from loram.peft.errors import LoramError
from loram.peft.spec import parse

__all__ = [
    "TaskType",
    "attach",
    "is_loram",
    "load_adapter",
    "lora_plus",
    "restore",
    "save_as_lora",
]

TaskType = Literal["CAUSAL_LM", "SEQ_CLS"]

# The sub-config of an initialisation, by the name of the LoraConfig field that holds it.
_SETTINGS: dict[object, tuple[str, type]] = {
    "corda": ("corda_config", CordaConfig),
    "eva": ("eva_config", EvaConfig),
    "lora_ga": ("lora_ga_config", LoraGAConfig),
}


def attach(
    model: nn.Module,
    method: Method,
    *,
    rank: int,
    alpha: float,
    rslora: bool = False,
    dropout: float = 0.0,
    target_modules: str = "all-linear",
    calibration: Iterable[Mapping[str, Tensor]] | None = None,
    task_type: TaskType = "CAUSAL_LM",
    heads: Sequence[str] = (),
    within: str | None = None,
) -> tuple[Any, Calibration | None]:
    """A model with a new LoRA adapter on it, started by a method.

    Args:
        model: changed in place, as PEFT does.
        method: a row with an adapter.
        rank: r.
        alpha: `lora_alpha`.
        rslora: s = α/√r, also where the method does not say so.
        dropout: on the adapter's input.
        target_modules: `all-linear`, or names joined by commas.
        calibration: batches for a data-driven method; read by no other.
        task_type: PEFT's name for what the model does.
        heads: modules that are trained whole and saved with the adapter, never adapted.
        within: name of the module outside of which no layer is adapted, such as the language model
            of one that sees.

    Returns:
        PEFT's model, and how much of the calibration stream was used (None if none is needed).

    Raises:
        LoramError: no layer matches, the method can't go on one, or it needs data and got none.
    """
    named = [name.strip() for name in target_modules.split(",")]
    settings: dict[str, Any] = {
        "r": rank,
        "lora_alpha": int(alpha) if float(alpha).is_integer() else alpha,
        "use_rslora": rslora or method.rslora,
        "lora_dropout": dropout,
        "target_modules": target_modules if target_modules == "all-linear" else named,
        "init_lora_weights": method.init,
        "task_type": task_type,
        "modules_to_save": list(heads) or None,
        "exclude_modules": None if within is None else _outside(within),
    }
    if method.init in _SETTINGS:
        field, made = _SETTINGS[method.init]
        settings[field] = made(**method.settings)
    config = LoraConfig(**settings)
    eva = method.init == "eva"  # makes the factors itself, of the ranks that it finds
    used: Calibration | None = None
    if method.data is not None:
        if calibration is None:
            raise LoramError(
                f"the method {method.name} starts from data ({method.data}): pass calibration, an "
                "iterable of batches with input_ids, attention_mask and labels"
            )
        used = None if eva else calibrate(model, config, calibration)
    if method.init == "olora":
        _refuse_conv1d(model, config)
    try:
        adapted = get_peft_model(model, config, low_cpu_mem_usage=eva)  # pyright: ignore[reportArgumentType]
    except NoMatchingPeftModuleError as error:
        raise LoramError(
            f"target_modules={target_modules!r} matches no layer of the model: expected "
            "all-linear, or names of its linear layers such as q_proj,v_proj"
        ) from error
    finally:
        forget(model)
    if eva and calibration is not None:
        used = calibrate_eva(adapted, calibration)
    return adapted, used


def _outside(within: str) -> str:
    """A pattern of all names but those in a module, as PEFT matches it: the whole name."""
    return rf"(?!(.*\.)?{re.escape(within)}\.).*"


def _refuse_conv1d(model: nn.Module, config: LoraConfig) -> None:
    """PEFT's OLoRA factorises the transpose of a Conv1D's weight, and does not notice."""
    layers = get_target_modules(model, resolved(config, model))
    names = [name for name, module in layers if isinstance(module, Conv1D)]
    if names:
        raise LoramError(
            f"PEFT's OLoRA does not go on Conv1D layers, got {', '.join(names[:4])}"
            f"{', …' if len(names) > 4 else ''}: leave them out of target_modules, or use another "
            "method, such as pissa or loram"
        )


def lora_plus(
    model: Any,
    method: Method,
    *,
    lr: float,
    ratio: float | None = None,
    weight_decay: float = 0.0,
    **adamw: Any,
) -> torch.optim.Optimizer | None:
    """LoRA+'s AdamW, PEFT's own, if the method has different rates for A and B; else None.

    Args:
        model: with the adapter.
        method: its row.
        lr: η_A.
        ratio: η_B/η_A; by default the method's.
        weight_decay: AdamW's.
        adamw: further arguments of `torch.optim.AdamW`.
    """
    ratio = method.lr_ratio if ratio is None else ratio
    if ratio == 1:
        return None
    return create_loraplus_optimizer(
        model,
        torch.optim.AdamW,
        lr=lr,
        loraplus_lr_ratio=ratio,
        loraplus_weight_decay=weight_decay,
        **adamw,
    )


def is_loram(method: Method) -> bool:
    """Whether the adapter is one of LoRAM's two forms."""
    return parse(method.init) is not None


def save_as_lora(model: Any, folder: Path, start: Path | None) -> None:
    """Save an adapter so that PEFT reloads it right on the pretrained base.

    Args:
        model: PEFT's model.
        folder: to write.
        start: where the untrained adapter was saved, for a method of PEFT's that rewrites the
            base: the update is then written as plain LoRA of rank 2r, PEFT's own conversion, since
            PEFT reloads some of these adapters onto a base that lacks what they took out of it.
            None for the rest.
    """
    if start is None:
        model.save_pretrained(str(folder))
        return
    # The plain LoRA has another start, and PEFT warns of settings that do not belong to it.
    config = vars(model.peft_config["default"])
    kept = {name: config[name] for name, _ in _SETTINGS.values()}
    config.update(dict.fromkeys(kept))
    try:
        with warnings.catch_warnings():
            # The conversion puts the start beside the adapter for a moment, which PEFT warns of.
            warnings.filterwarnings("ignore", ".*should thus not be used with other adapters")
            model.save_pretrained(str(folder), path_initial_model_for_weight_conversion=str(start))
    finally:
        config.update(kept)
    _add_heads(model, folder)


def _add_heads(model: Any, folder: Path) -> None:
    """Write what is trained whole beside the factors: PEFT's conversion leaves it out."""
    trained: dict[str, Tensor] = get_peft_model_state_dict(model)
    heads = {key: x for key, x in trained.items() if ".lora_" not in key}
    if not heads:
        return
    file = folder / "adapter_model.safetensors"
    factors = load_file(file)
    save_file(factors | {k: x.contiguous() for k, x in heads.items()}, file, {"format": "pt"})


def restore(model: Any, checkpoint: str | os.PathLike[str]) -> None:
    """Write a checkpoint's factors into the adapter that `attach` made, which goes on training."""
    model.load_adapter(os.fspath(checkpoint), "default", is_trainable=True)


def load_adapter(model: nn.Module, adapter: str | os.PathLike[str]) -> Any:
    """A model with a saved adapter on it, for inference."""
    return PeftModel.from_pretrained(model, os.fspath(adapter)).eval()  # pyright: ignore[reportArgumentType]
