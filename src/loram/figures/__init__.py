"""The paper's figures, and one of our own, as PNG and SVG with their data beside them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from loram.figures.equivalence import PARTS, draw_equivalence
from loram.figures.growth_mlp import STARTS, draw_growth
from loram.figures.growth_runs import draw_runs
from loram.figures.mlp import Network
from loram.figures.spectra import draw_spectra, pretrained_kinds
from loram.figures.style import FigureError

__all__ = ["FIGURES", "FigureError", "Wanted", "Which", "draw"]

Which = Literal["2a", "2b", "3", "growth"]
Begin = Callable[[int], Callable[[int], None]]
"""(how many parts) → function told of every part that is done."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a figure may be told.

    Attributes:
        picture: PNG to write; SVG and CSV go to the same name.
        runs: folders of runs, for `growth`.
        steps: of every run of figures 2a and 2b.
        seed: of figures 2a and 2b.
        begin: for progress bars.
    """

    picture: Path
    runs: tuple[Path, ...] = ()
    steps: int = 200
    seed: int = 0
    begin: Begin = lambda total: lambda n: None


def _2a(wanted: Wanted) -> Sequence[Any]:
    tick = wanted.begin(2 * (len(PARTS) + 1))
    network = Network(seed=wanted.seed)
    return draw_equivalence(wanted.picture, network=network, steps=wanted.steps, tick=tick)


def _2b(wanted: Wanted) -> Sequence[Any]:
    tick = wanted.begin(2 * (len(STARTS) + 1))
    network = Network(seed=wanted.seed)
    return draw_growth(wanted.picture, network=network, steps=wanted.steps, tick=tick)


def _3(wanted: Wanted) -> Sequence[Any]:
    models = pretrained_kinds()
    tick = wanted.begin(sum(len(each) for kinds in models.values() for each in kinds.values()))
    return draw_spectra(wanted.picture, models, tick=tick)


def _growth(wanted: Wanted) -> Sequence[Any]:
    return draw_runs(wanted.picture, wanted.runs)


FIGURES: MappingProxyType[Which, tuple[str, Callable[[Wanted], Sequence[Any]]]] = MappingProxyType(
    {
        "2a": ("figure2a", _2a),
        "2b": ("figure2b", _2b),
        "3": ("figure3", _3),
        "growth": ("growth", _growth),
    }
)
"""Figures by number: their file's name, and what draws them."""


def draw(
    which: Which,
    folder: Path,
    *,
    runs: Sequence[Path] = (),
    steps: int = 200,
    seed: int = 0,
    begin: Begin = lambda total: lambda n: None,
) -> tuple[list[Path], Sequence[Any]]:
    """Draw one figure.

    Args:
        which: its number in the paper, or `growth`.
        folder: to write to; made.
        runs: folders of runs by `loram train`, for `growth` only.
        steps: of every run of figures 2a and 2b.
        seed: of figures 2a and 2b.
        begin: for progress bars.

    Returns:
        PNG, SVG and CSV; and the figure in numbers, named tuples of one kind.

    Raises:
        FigureError: what it is drawn from is not there.
    """
    if runs and which != "growth":
        raise FigureError(f"figure {which} is not drawn from runs: leave them out, or draw growth")
    name, drawn_by = FIGURES[which]
    picture = folder / f"{name}.png"
    found = drawn_by(Wanted(picture, tuple(runs), steps, seed, begin))
    return [picture.with_suffix(suffix) for suffix in (".png", ".svg", ".csv")], found
