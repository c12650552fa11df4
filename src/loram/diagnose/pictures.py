"""The look of this room's pictures; matplotlib is imported when one is drawn."""

from collections.abc import Iterator
from itertools import cycle, product
from pathlib import Path
from typing import Any

__all__ = ["GREY", "panels", "save", "styles"]

# Okabe and Ito's colours without yellow, told apart also by the colour-blind; markers go on.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v")
GREY = "#777777"


def styles() -> Iterator[tuple[str, str]]:
    """(colour, marker), all colours before a marker comes again with another."""
    return cycle((colour, marker) for marker, colour in product(_MARKERS, _COLOURS))


def panels(count: int) -> tuple[Any, list[Any]]:
    """A figure with `count` axes side by side, without clutter."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2 * count, 4.4), dpi=144, layout="constrained")
    drawn: list[Any] = list(figure.subplots(1, count, squeeze=False)[0])
    for axes in drawn:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
    return figure, drawn


def save(figure: Any, stem: Path) -> list[Path]:
    """PNG and SVG."""
    written = [stem.with_suffix(suffix) for suffix in (".png", ".svg")]
    for picture in written:
        figure.savefig(picture)
    return written
