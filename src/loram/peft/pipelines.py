"""LoRA files of diffusers' pipelines: what `load_lora_weights` and its like read.

    >>> save_lora_weights("out", {"transformer": pipeline.transformer})
    >>> export_lora_weights("raw/pytorch_lora_weights.safetensors", "out", rank=8)

Such a file has one adapter for each part of a pipeline, `transformer.….lora_A.weight`, and its
readers take alpha for the rank unless told otherwise. So all that is written here is plain LoRA
with alpha folded in.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from loram.files import staged_file
from loram.peft.errors import LoramError
from loram.peft.plain import Plain, as_plain, check_rank
from loram.peft.spec import parse
from loram.peft.stored import RECORD

__all__ = [
    "CONFIG",
    "METADATA",
    "WEIGHTS",
    "SavedWeights",
    "export_lora_weights",
    "plain_of",
    "plain_state",
    "save_lora_weights",
]

WEIGHTS = "pytorch_lora_weights.safetensors"
METADATA = "lora_adapter_metadata"
"""diffusers' names of the file, and of what it notes in its header."""

CONFIG = "loram_config"
"""Attribute of a record's tensor in a state dict: the config of its adapter."""

# How diffusers has named A and B; the first is PEFT's name and today's.
_NAMES = (
    (".lora_A.", ".lora_B."),
    (".lora.down.", ".lora.up."),
    (".lora_linear_layer.down.", ".lora_linear_layer.up."),
)


@dataclass(frozen=True, slots=True)
class SavedWeights:
    """What was written.

    Attributes:
        file: with all parts.
        ranks: by part.
        error: by part, ‖W_LoRA − written‖_F / ‖W_LoRA‖_F; 0 where only rounding is lost.
        bytes: size of the file.
    """

    file: Path
    ranks: dict[str, int]
    error: dict[str, float]
    bytes: int


def save_lora_weights(
    out: str | os.PathLike[str],
    models: Mapping[str, nn.Module],
    *,
    adapter: str = "default",
    rank: int | None = None,
    dtype: torch.dtype | None = None,
    starts: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> SavedWeights:
    """Write the adapters of a pipeline's parts as plain LoRA, `pytorch_lora_weights.safetensors`.

    Args:
        out: folder; a file of this name in it is replaced.
        models: by the pipeline's names for them: transformer, unet, text_encoder, …
        adapter: name on each.
        rank: None for the exact one, 2r of LoRAM. Else the best approximation of that rank.
        dtype: of the factors; the adapters' own by default.
        starts: by part, PEFT's state dict of the untrained adapter, for a method that rewrites the
            base and is not LoRAM.

    Raises:
        LoramError: a model without the adapter, or one that plain LoRA can't hold.
        ValueError: rank < 1.
    """
    check_rank(rank)
    parts: dict[str, Plain] = {}
    for part, model in models.items():
        _check_part(part, model)
        start = (starts or {}).get(part)
        parts[part] = plain_of(model, adapter, rank=rank, dtype=dtype, start=start)
    return _write(Path(out), parts, {})


def _check_part(part: str, model: nn.Module) -> None:
    """A denoiser's factors under a text encoder's name would be read into the wrong model."""
    encoder = "text_encoder" in part
    if encoder == type(model).__module__.startswith("diffusers."):
        expected = "a text encoder, of Transformers" if encoder else "a denoiser, of diffusers"
        raise LoramError(f"{part} is {expected}; got a {type(model).__name__}: mixed up?")


def plain_of(
    model: nn.Module,
    adapter: str,
    *,
    rank: int | None = None,
    dtype: torch.dtype | None = None,
    start: Mapping[str, Tensor] | None = None,
) -> Plain:
    """The adapter of a live model as plain LoRA, on the CPU; arguments as `save_lora_weights`."""
    configs: dict[str, Any] = getattr(model, "peft_config", {})
    if adapter not in configs:
        raise LoramError(
            f"{type(model).__name__} has no adapter {adapter!r}: it has {sorted(configs)}"
        )
    tensors: dict[str, Tensor] = get_peft_model_state_dict(model, adapter_name=adapter)
    tensors = {key: tensor.detach().cpu() for key, tensor in tensors.items()}
    return as_plain(configs[adapter], tensors, rank=rank, dtype=dtype, start=start)


def export_lora_weights(
    raw: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    rank: int | None = None,
    configs: Mapping[str, LoraConfig] | None = None,
) -> SavedWeights:
    """Turn a raw file, with LoRAM's own tensors in it, into one that pipelines read.

    Args:
        raw: the file, or a folder with `pytorch_lora_weights.safetensors`.
        out: folder to write; may not be the raw file's own.
        rank: as `save_lora_weights`.
        configs: by part; by default those in the file's header.

    Raises:
        LoramError: no such file, or it does not say how a part was made.
        ValueError: rank < 1.
    """
    check_rank(rank)
    file = Path(raw)
    file = file / WEIGHTS if file.is_dir() else file
    if Path(out).resolve() == file.parent.resolve() and file.name == WEIGHTS:
        raise LoramError(f"{out} holds the raw file itself: name another folder")
    try:
        with safe_open(file, framework="pt") as opened:
            noted: dict[str, str] = opened.metadata() or {}
            state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise LoramError(f"can't read {file} ({error}): expected a safetensors file") from error
    header: dict[str, Any] = json.loads(noted.get(METADATA, "{}"))
    parts, rest = _split(state, header, configs or {}, rank)
    return _write(Path(out), parts, rest)


def plain_state(
    state: Mapping[str, Tensor], header: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A file's tensors and header with all that is LoRAM's turned into plain LoRA.

    Args:
        state: `part.layer.name`; may hold parts that are not LoRAM's, which stay as they are.
        header: `part.field` of the configs; may be empty, if the tensors came straight from PEFT.

    Raises:
        LoramError: a part does not say how it was made.
    """
    parts, plain = _split(state, header, {}, None)
    noted = dict(header)
    for part, made in parts.items():
        plain |= {f"{part}.{key}": tensor for key, tensor in made.tensors.items()}
        if any(key.startswith(f"{part}.") for key in header):
            config: dict[str, Any] = made.config.to_dict()
            noted |= {f"{part}.{key}": value for key, value in config.items()}
    return plain, noted


def _split(
    state: Mapping[str, Tensor],
    header: Mapping[str, Any],
    configs: Mapping[str, LoraConfig],
    rank: int | None,
) -> tuple[dict[str, Plain], dict[str, Tensor]]:
    """Parts that hold LoRAM, as plain LoRA by PEFT's names; and the tensors of all others."""
    ours = sorted({key.split(".")[0] for key in state if key.endswith(RECORD)})
    parts: dict[str, Plain] = {}
    for part in ours:
        mine = {k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(f"{part}.")}
        config = configs.get(part) or _told(mine) or _noted(part, header)
        if config is None or parse(config.init_lora_weights) is None:
            raise LoramError(
                f"the {part} holds a LoRAM adapter, and its alpha and form are not told: expected "
                f"{part}_lora_adapter_metadata (diffusers' `_collate_lora_metadata`), or configs="
            )
        tensors = {_peft_name(key): tensor.detach().cpu() for key, tensor in mine.items()}
        parts[part] = as_plain(config, tensors, rank=rank)
    rest = {key: tensor for key, tensor in state.items() if key.split(".")[0] not in ours}
    return parts, rest


def _told(tensors: Mapping[str, Tensor]) -> LoraConfig | None:
    """The config that came with the tensors, if they were not copied since."""
    found = (getattr(t, CONFIG, None) for key, t in tensors.items() if key.endswith(RECORD))
    return next((config for config in found if config is not None), None)


def _noted(part: str, header: Mapping[str, Any]) -> LoraConfig | None:
    """The config in a file's header."""
    known = {field.name for field in fields(LoraConfig) if field.init}
    mine = {key.removeprefix(f"{part}."): value for key, value in header.items()}
    options = {key: value for key, value in mine.items() if key in known}
    return LoraConfig(**options) if "init_lora_weights" in options else None


def _peft_name(key: str) -> str:
    for old in _NAMES[1:]:
        for theirs, peft in zip(old, _NAMES[0], strict=True):
            key = key.replace(theirs, peft)
    return key


def _write(out: Path, parts: Mapping[str, Plain], rest: Mapping[str, Tensor]) -> SavedWeights:
    if not parts:
        raise LoramError("nothing to write: expected a part with a LoRA adapter, got none")
    tensors = dict(rest)
    for part, plain in parts.items():
        if not plain.layers:
            raise LoramError(f"the adapter of the {part} has no LoRA layer")
        for key, tensor in plain.tensors.items():
            tensors[f"{part}.{key.removeprefix('base_model.model.')}"] = tensor.contiguous()
    file = out / WEIGHTS
    try:
        out.mkdir(parents=True, exist_ok=True)
        with staged_file(file) as staging:
            save_file(tensors, staging, metadata={"format": "pt"})
    except OSError as error:
        raise LoramError(f"can't write {file} ({error}): name another folder") from error
    return SavedWeights(
        file,
        {part: plain.config.r for part, plain in parts.items()},
        {part: plain.error for part, plain in parts.items()},
        file.stat().st_size,
    )
