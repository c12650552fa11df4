"""A second adapter made from a first one's own config, to become its copy."""

from typing import Any

from torch import nn

from loram.peft.layers import lora_layers
from loram.peft.record import record_of

__all__ = ["copy_records", "twin_of"]


def twin_of(configs: dict[str, Any], adapter: str) -> str | None:
    """Name of another adapter that has the very same config object, or None.

    TRL makes the reference of DPO so, when training goes on from an adapter: it copies parameters,
    and would leave the copy with a β computed anew, from weights that may since have been quantised
    or cast.

    Args:
        configs: by adapter, as PEFT holds them.
        adapter: the one that is being made.
    """
    return next(
        (n for n, config in configs.items() if n != adapter and config is configs[adapter]), None
    )


def copy_records(model: nn.Module, source: str, adapter: str) -> None:
    """β, basis and seed of `adapter` become those of `source` on every layer that has both."""
    for _, layer in lora_layers(model, adapter):
        theirs, mine = record_of(layer, source), record_of(layer, adapter)
        if theirs is not None and mine is not None:
            mine.weight.copy_(theirs.weight)
            mine.refresh()
