"""Named settings to start from: what is given beside the name counts more."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from loram.tasks.table import named
from loram.tasks.task import Kind

__all__ = ["RECIPES", "recipe"]

# Common to the paper's runs on large models (arXiv 2507.06558, section 4.2): AdamW, 128 examples a
# step, cosine, no decay; what a GPU holds of the 128 at a time is one's own affair.
_LARGE: Mapping[str, Any] = MappingProxyType(
    {"batch_size": 16, "accumulate": 8, "schedule": "cosine", "weight_decay": 0.0}
)

RECIPES: Mapping[tuple[str, Kind], Mapping[str, Any]] = MappingProxyType(
    {
        # Table 1, PiSSA's set-up: 100,000 examples once, 3 % of the steps to warm up.
        ("paper", "answers"): {
            **_LARGE,
            "model": "meta-llama/Llama-2-7b-hf",
            "rank": 16,
            "lr": 2e-5,
            "train_size": 100_000,
            "steps": 782,
            "warmup_steps": 23,
        },
        # Table 3, which gives the rank and the batch and refers to LLaVA's own script for the rest
        # (learning rates, warm-up, length). 656,000 examples once. The paper's connector is a
        # resampler; the model on the hub has LLaVA's own two layers.
        ("paper", "images"): {
            **_LARGE,
            "model": "llava-hf/llava-1.5-13b-hf",
            "rank": 64,
            "lr": 2e-4,
            "head_lr": 2e-5,
            "dtype": "bfloat16",
            "max_length": 2048,
            "steps": 5125,
            "warmup_steps": 154,
        },
    }
)
"""By name and kind of task."""


def recipe(name: str, task: str) -> dict[str, Any]:
    """Settings of a recipe.

    Args:
        name: such as `paper`.
        task: a row of the table of tasks; its kind has recipes of its own.

    Raises:
        ValueError: there is none; says which there are.
    """
    kind = named(task).kind
    found = RECIPES.get((name, kind))
    if found is None:
        known = ", ".join(f"{each} for {of}" for each, of in RECIPES)
        raise ValueError(f"no recipe {name!r} for tasks of the kind {kind}: expected {known}")
    return dict(found)
