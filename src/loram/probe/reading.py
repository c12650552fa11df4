"""What a probe reads of a layer, and its few numbers over all layers."""

import math
import statistics
from collections.abc import Callable, Mapping
from typing import NamedTuple

__all__ = ["LayerMagnitudes", "LayerStep", "summary"]


class LayerMagnitudes(NamedTuple):
    """ν[A] and ν[B] of the factors, and ν[W_LoRA] of the update since the start, of one layer."""

    A: float
    B: float
    update: float


class LayerStep(NamedTuple):
    """One layer after a step; None is what can't be said.

    Attributes:
        A: ν[A]; None in full fine-tuning.
        B: ν[B]; None in full fine-tuning.
        update: ν[W_LoRA], all that was added to the layer's weight since the start.
        step: ν[ΔW_t], what was added to it since the last reading. None if there was none.
        grad_A: ‖∇A‖_F; None without gradients.
        grad_B: ‖∇B‖_F.
        stable_rank: ‖W_LoRA‖²_F / σ₁². None while the layer has not moved, or is not finite.
        effective_rank: e to the entropy of σᵢ/Σσ (Roy and Vetterli, EUSIPCO 2007); None likewise.
    """

    A: float | None
    B: float | None
    update: float
    step: float | None = None
    grad_A: float | None = None
    grad_B: float | None = None
    stable_rank: float | None = None
    effective_rank: float | None = None


def summary(
    layers: Mapping[str, LayerStep], weights: Mapping[str, float] | None = None
) -> dict[str, float]:
    """A reading in few numbers, for a dashboard; what no layer has is left out.

    Args:
        layers: as `MagnitudeProbe.step` returns them.
        weights: ν[W] of the layers, for the ratios.

    Returns:
        `magnitude/A`, `B`, `update`, `step`, `stable_rank`, `effective_rank`: medians over layers;
        `update_over_weight`, `step_over_weight`: medians of ν[·]/ν[W], and `…_max`;
        `grad_A`, `grad_B`: norms over all layers together.
    """
    columns = {field: _known(field, layers) for field in LayerStep._fields}
    for field in ("update", "step"):
        columns[f"{field}_over_weight"] = {
            name: value / weights[name]
            for name, value in columns[field].items()
            if weights is not None and weights.get(name, 0.0) > 0
        }
    shown = {
        key: over([*column.values()])
        for key, column in columns.items()
        for key, over in _OVER.get(key, {key: statistics.median}).items()
        if column
    }
    return {f"magnitude/{key}": value for key, value in shown.items()}


def _norm(values: list[float]) -> float:
    return math.hypot(*values)


def _with_largest(key: str) -> dict[str, Callable[[list[float]], float]]:
    return {key: statistics.median, f"{key}_max": max}


# Columns that are not shown by their median alone.
_OVER: dict[str, dict[str, Callable[[list[float]], float]]] = {
    "grad_A": {"grad_A": _norm},
    "grad_B": {"grad_B": _norm},
    "update_over_weight": _with_largest("update_over_weight"),
    "step_over_weight": _with_largest("step_over_weight"),
}


def _known(field: str, layers: Mapping[str, LayerStep]) -> dict[str, float]:
    values = {name: getattr(layer, field) for name, layer in layers.items()}
    return {name: value for name, value in values.items() if value is not None}
