"""The look of this room's pictures; matplotlib is imported when one is drawn."""

from collections.abc import Iterator
from itertools import cycle, product
from pathlib import Path
from typing import Any

from loram.figures.style import canvas
from loram.figures.style import save as save_picture

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
    return canvas(1, count, size=(6.2 * count, 4.4))


def save(figure: Any, stem: Path) -> list[Path]:
    """PNG and SVG."""
    picture = save_picture(figure, stem.with_suffix(".png"))
    return [picture, picture.with_suffix(".svg")]
