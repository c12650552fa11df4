"""A checkpoint's model on the meta device: every module and shape, no values; and where each of its
tensors is in the files.

The names in a file need not be the model's (`bert.` before them, or not; `gamma` for `weight`; a
head that shares the embedding's), so the mapping is Transformers' own, that of its loader.
"""

import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from loram.checkpoints import Entry
from loram.peft.errors import LoramError
from loram.streams import DTYPES

__all__ = ["TASKS", "Skeleton", "Task", "skeleton"]


class Task(NamedTuple):
    """What a model is loaded for.

    Attributes:
        auto: Transformers' class that loads it.
        peft: PEFT's task type.
        names: of the architectures in a config that mean this task.
    """

    auto: Any
    peft: str
    names: frozenset[str]


def _names(mapping: Mapping[Any, Any]) -> frozenset[str]:
    found: set[str] = set()
    for value in mapping.values():
        found.update([value] if isinstance(value, str) else value)
    return frozenset(found)


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "seq2seq-lm": Task(
            AutoModelForSeq2SeqLM,
            "SEQ_2_SEQ_LM",
            _names(MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
        ),
        "causal-lm": Task(
            AutoModelForCausalLM, "CAUSAL_LM", _names(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
        ),
        "encoder": Task(AutoModel, "FEATURE_EXTRACTION", frozenset()),
    }
)
"""By name; the first whose names have the config's architecture counts, else the last."""


class Skeleton(NamedTuple):
    """A model without values.

    Attributes:
        model: on the meta device, its parameters in the dtype that they would be loaded in.
        task: of `TASKS`.
        places: by the model's own name, the tensor in a file.
        converted: names of what the loader makes of several tensors, or of parts of one.
    """

    model: nn.Module
    task: str
    places: dict[str, Entry]
    converted: frozenset[str]


def skeleton(name: str, held: list[Entry], *, dtype: str, task: str) -> Skeleton:
    """The model that `from_pretrained` would load, without its values.

    Args:
        name: folder with a config.json, or hub id.
        held: the checkpoint's tensors.
        dtype: of torch, by name; `auto` is the config's, or else that of the first tensor.
        task: a name of `TASKS`, or `auto`, by the config's architectures.

    Raises:
        LoramError: no config that Transformers knows, a quantised checkpoint, or a dtype or task
            that can't be.
    """
    if task not in ("auto", *TASKS):
        raise LoramError(f"unknown task {task!r}: expected auto, {', '.join(TASKS)}")
    try:
        config: Any = AutoConfig.from_pretrained(name)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LoramError(
            f"{name!r} has no config.json of a model that Transformers knows ({first}): expected "
            "a folder with it beside the weights, or a hub id"
        ) from error
    if getattr(config, "quantization_config", None) is not None:
        raise LoramError(
            f"{name!r} is quantised, and its files hold codes: init from the checkpoint that it "
            "was made from, or load it and use get_peft_model"
        )
    task = _task_of(config) if task == "auto" else task
    loaded = _dtype_of(config, held, dtype)
    with torch.device("meta"):
        try:
            model: Any = TASKS[task].auto.from_config(config, dtype=loaded)
        except ValueError as error:
            raise LoramError(f"{name!r} has no model for the task {task}: {error}") from error
    _keep_wide(model, loaded)
    places, converted = _places(model, held)
    return Skeleton(model, task, places, converted)


def _task_of(config: Any) -> str:
    wanted = set(getattr(config, "architectures", None) or ())
    return next((name for name, task in TASKS.items() if task.names & wanted), "encoder")


def _dtype_of(config: Any, held: list[Entry], dtype: str) -> torch.dtype:
    known = {str(each).removeprefix("torch."): each for each in DTYPES.values()}
    if dtype == "auto":
        first = next((DTYPES[entry.dtype] for entry in held if entry.is_float), torch.float32)
        return config.dtype if isinstance(config.dtype, torch.dtype) else first
    if dtype not in known:
        raise LoramError(f"unknown dtype {dtype!r}: expected auto, {', '.join(known)}")
    return known[dtype]


def _keep_wide(model: Any, dtype: torch.dtype) -> None:
    """The few modules that an architecture keeps in float32 whatever the dtype, as the loader."""
    plan: dict[str, torch.dtype] = model._get_dtype_plan(dtype)
    for name, parameter in model.named_parameters():
        wide = next((plan[part] for part in name.split(".") if part in plan), None)
        if wide is not None:
            parameter.data = parameter.data.to(wide)


def _places(model: Any, held: Iterable[Entry]) -> tuple[dict[str, Entry], frozenset[str]]:
    """By the loader's own two steps of `convert_and_load_state_dict_in_model`."""
    state: dict[str, Tensor] = model.state_dict()
    mapping = get_model_conversion_mapping(model)
    renamings = [row for row in mapping if isinstance(row, WeightRenaming)]
    converters = [row for row in mapping if isinstance(row, WeightConverter)]
    prefix = model.base_model_prefix
    places: dict[str, Entry] = {}
    converted: set[str] = set()
    for entry in held:
        name, source = rename_source_key(entry.name, renamings, converters, prefix, state)
        if name not in state and entry.name in state:
            name, source = rename_source_key(entry.name, [], [], prefix, state)
        if source is not None:
            converted.update(_made(name, source, converters))
        else:
            places.setdefault(name, entry)
    tied: dict[str, str] = getattr(model, "all_tied_weights_keys", None) or {}
    for one, other in [*tied.items(), *((b, a) for a, b in tied.items())]:
        if one not in places and other in places:
            places[one] = places[other]
    return places, frozenset(converted)


def _made(name: str, source: str, converters: list[Any]) -> set[str]:
    """What a converter makes of the tensor that is renamed to the first of its targets."""
    converter = next(row for row in converters if source in row.source_patterns)
    targets: list[str] = converter.target_patterns
    return {name.replace(targets[0], target) for target in targets}
