"""How every picture looks and is kept: PNG, SVG, and its tidy data beside them."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["CYCLE", "GREY", "INK", "FigureError", "canvas", "mathtext", "save", "write_csv"]

# Okabe and Ito's colours, told apart also by the colour-blind; dashes tell them apart in print.
CYCLE = (
    ("#0072B2", "-"),
    ("#E69F00", "--"),
    ("#D55E00", "-"),
    ("#009E73", "-."),
    ("#CC79A7", ":"),
    ("#56B4E9", "--"),
)
INK, GREY = "#000000", "#6E6E6E"


class FigureError(ValueError):
    """A figure can't be drawn; the message says what was expected and what to do."""


# Names of the paper in plain text, as CSV files and legends have them, and as mathematics.
_SYMBOLS = {
    "ν[W_LoRA]": r"$\nu[W_\mathrm{LoRA}]$",
    "ν[ΔW]": r"$\nu[\Delta W]$",
    "η_A": r"$\eta_A$",
    "η_B": r"$\eta_B$",
    "σ_A²": r"$\sigma_A^2$",
    "σ_B²": r"$\sigma_B^2$",
    "A⁰": "$A^0$",
    "B⁰": "$B^0$",
    "k₁γt": r"$k_1\gamma t$",
}


def mathtext(label: str) -> str:
    """A label with the paper's symbols set as mathematics."""
    for plain, maths in _SYMBOLS.items():
        label = label.replace(plain, maths)
    return label


def canvas(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float] = (7, 4.2), **shared: Any
) -> tuple[Any, list[Any]]:
    """A matplotlib figure, drawn without a display, and its axes row by row.

    Args:
        rows: of panels.
        columns: of panels.
        size: of the whole, in inches.
        shared: `sharex` and `sharey` of `Figure.subplots`.

    Raises:
        FigureError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise FigureError("figures need matplotlib: pip install 'loram[demo]'") from error
    figure = Figure(figsize=size, dpi=144, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, **shared).flat)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
    return figure, panels


def save(figure: Any, picture: Path) -> Path:
    """Write the picture as PNG, and as SVG under the same name; returns the PNG."""
    from matplotlib import rc_context

    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture)
    # Without the date and with fixed ids the same data is the same file; text stays text.
    with rc_context({"svg.hashsalt": "loram", "svg.fonttype": "none"}):
        figure.savefig(picture.with_suffix(".svg"), metadata={"Date": None})
    return picture


def write_csv(picture: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write the picture's data, a row an observation, under its name with .csv."""
    picture.parent.mkdir(parents=True, exist_ok=True)
    data = picture.with_suffix(".csv")
    with data.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return data
