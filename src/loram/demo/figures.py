"""The demo's two pictures, each with its tidy data beside it."""

import json
from itertools import cycle
from pathlib import Path
from typing import Any

from loram.figures.style import CYCLE, canvas, save, write_csv

__all__ = ["draw_losses", "draw_magnitudes"]


def draw_losses(logs: dict[str, Path], picture: Path) -> Path:
    """Training loss over steps, a line a method, thin as measured and thick as a running mean.

    Args:
        logs: method → JSONL of {"step", "loss"}.
        picture: PNG to write; the data goes to the same name with .csv.
    """
    curves = {
        name: [(row["step"], row["loss"]) for row in _lines(log)] for name, log in logs.items()
    }
    _save_csv(picture, "loss", curves)
    figure, axes = _axes("step", "training loss (nats per answer token)")
    for (name, curve), (colour, dashes) in zip(curves.items(), cycle(CYCLE), strict=False):
        steps, losses = zip(*curve, strict=True)
        axes.plot(steps, losses, color=colour, linewidth=0.8, alpha=0.35)
        axes.plot(steps, _smooth(losses), color=colour, linestyle=dashes, linewidth=2, label=name)
    axes.legend(frameon=False)
    axes.set_title("Loss on the batches, one learning rate, one seed", loc="left", fontsize=11)
    return save(figure, picture)


def draw_magnitudes(logs: dict[str, Path], picture: Path) -> Path:
    """ν[W_LoRA] over steps, logarithmic, a line a method: median over layers and the middle half.

    Args:
        logs: method → JSONL of {"step", "layers": {name: [ν[A], ν[B], ν[W_LoRA]]}}.
        picture: PNG to write; the data goes to the same name with .csv.
    """
    figure, axes = _axes("step", "update magnitude ν[W_LoRA]")
    medians: dict[str, list[tuple[int, float]]] = {}
    for (name, log), (colour, dashes) in zip(logs.items(), cycle(CYCLE), strict=False):
        steps: list[int] = []
        quartiles: list[tuple[float, float, float]] = []
        for row in _lines(log):
            values = sorted(layer[2] for layer in row["layers"].values())
            if values[len(values) // 2] > 0:  # the start has no place on a logarithmic axis
                steps.append(row["step"])
                quartiles.append(tuple(values[len(values) * q // 4] for q in (1, 2, 3)))  # pyright: ignore[reportArgumentType]
        medians[name] = []
        if not quartiles:  # a run that has not moved yet
            continue
        low, middle, high = zip(*quartiles, strict=True)
        medians[name] = list(zip(steps, middle, strict=True))
        axes.fill_between(steps, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.plot(steps, middle, color=colour, linestyle=dashes, linewidth=2, label=name)
    _save_csv(picture, "median_nu_update", medians)
    if any(medians.values()):
        axes.set_yscale("log")
        axes.legend(frameon=False, loc="lower right")
    axes.set_title(
        "How far the weights have moved (median layer, middle half)", loc="left", fontsize=11
    )
    return save(figure, picture)


def _axes(x: str, y: str) -> tuple[Any, Any]:
    figure, (axes,) = canvas()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _save_csv(picture: Path, column: str, curves: dict[str, list[tuple[int, float]]]) -> None:
    rows = [(name, *point) for name, curve in curves.items() for point in curve]
    write_csv(picture, ("method", "step", column), rows)


def _smooth(values: tuple[float, ...], window: int = 5) -> list[float]:
    """Mean of each value and up to `window` − 1 before it."""
    return [
        sum(values[max(0, i - window + 1) : i + 1]) / len(values[max(0, i - window + 1) : i + 1])
        for i in range(len(values))
    ]


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]
