"""Pictures of many methods as lines: together while few, else each over all others in grey."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loram.figures.style import CYCLE, GREY, INK, canvas, mathtext, save

__all__ = ["Axes", "Line", "draw_lines"]

TOGETHER = len(CYCLE)  # more lines in one panel can't be told apart
_PALE = "#C8C8C8"


@dataclass(frozen=True, slots=True)
class Line:
    """A method's line in a panel.

    Attributes:
        x: ascending.
        y: as many; NaN leaves a gap.
        low: lower end of the band; None for no band.
        high: upper end of it.
        mark: point to emphasise.
        crosses: x at which runs diverged, drawn at the panel's foot.
    """

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    mark: tuple[float, float] | None = None
    crosses: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Axes:
    """What the axes of all panels are.

    Attributes:
        x: label.
        y: label by panel.
        log_x: logarithmic.
        log_y: titles of panels whose y is too.
        ticks: on the x axis, in place of the usual ones.
        clip: by panel, whether the worst tenth of high values may be cut off, as a loss near
            divergence is.
    """

    x: str
    y: Mapping[str, str]
    log_x: bool = False
    log_y: Collection[str] = ()
    ticks: Sequence[float] = ()
    clip: Mapping[str, bool] | None = None


def draw_lines(
    picture: Path,
    panels: Mapping[str, Mapping[str, Line]],
    axes: Axes,
    labels: Sequence[str],
    reference: str,
) -> list[Path]:
    """Draw all panels into one picture, or one picture a panel if there are many methods.

    Args:
        picture: PNG; with many methods its name is continued by the panel's.
        panels: lines by method, by panel title.
        axes: of the panels.
        labels: all methods in order, which fixes their colours.
        reference: drawn in every small panel.
    """
    panels = {title: lines for title, lines in panels.items() if lines}
    if not panels:
        return []
    used = [label for label in labels if any(label in lines for lines in panels.values())]
    if len(used) <= TOGETHER:
        return [_together(picture, panels, axes, used)]
    return [
        _apart(
            picture.with_name(f"{picture.stem}_{slug(title)}.png"),
            title,
            {label: lines[label] for label in used if label in lines},
            axes,
            reference,
        )
        for title, lines in panels.items()
    ]


def slug(title: str) -> str:
    """A title as part of a file's name."""
    return "".join(c if c.isalnum() else "-" for c in title.lower()).strip("-").replace("--", "-")


def _together(
    picture: Path, panels: Mapping[str, Mapping[str, Line]], axes: Axes, labels: Sequence[str]
) -> Path:
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    figure, all_panels = canvas(rows, columns, size=(1.4 + 3.4 * columns, 0.9 + 2.8 * rows))
    handles: dict[str, Any] = {}
    for panel, (title, lines) in zip(all_panels, panels.items(), strict=False):
        for label, line in lines.items():
            colour, dash = CYCLE[labels.index(label)]
            handles[label] = _line(panel, line, colour, dash)
        _finish(panel, title, lines, axes)
    for panel in all_panels[len(panels) :]:
        panel.set_visible(False)
    shown = [label for label in labels if label in handles]
    figure.legend(
        [handles[label] for label in shown],
        shown,
        loc="outside lower center",
        ncols=min(len(shown), 3 * columns),
        frameon=False,
        fontsize=9,
    )
    return save(figure, picture)


def _apart(
    picture: Path, title: str, lines: Mapping[str, Line], axes: Axes, reference: str
) -> Path:
    columns = 4
    rows = math.ceil(len(lines) / columns)
    figure, panels = canvas(rows, columns, size=(10, 0.8 + 1.9 * rows), sharex=True, sharey=True)
    (blue, _), (orange, dash) = CYCLE[0], CYCLE[1]
    for panel, (label, line) in zip(panels, lines.items(), strict=False):
        # One line with gaps: many artists in many panels take seconds to lay out.
        others = [each for name, each in lines.items() if name != label]
        x, y = ([v for each in others for v in (*getattr(each, a), math.nan)] for a in "xy")
        panel.plot(x, y, color=_PALE, linewidth=0.7)
        if reference in lines and reference != label:
            base = lines[reference]
            panel.plot(base.x, base.y, color=orange, linestyle=dash, linewidth=1.2)
        _line(panel, line, blue, "-")
        _finish(panel, label, lines, axes, key=title)
        panel.set_xlabel("")
        panel.set_ylabel("")
    for panel in panels[len(lines) :]:
        panel.set_visible(False)
    for panel in panels[max(len(lines) - columns, 0) : len(lines)]:
        panel.tick_params(labelbottom=True)
    figure.suptitle(mathtext(title), x=0.01, ha="left", fontsize=12)
    figure.supxlabel(mathtext(axes.x), fontsize=10)
    figure.supylabel(mathtext(axes.y[title]), fontsize=10)
    return save(figure, picture)


def _line(panel: Any, line: Line, colour: str, dash: str) -> Any:
    many = len(line.x) > 40
    if line.low is not None and line.high is not None:
        panel.fill_between(
            line.x, line.low, line.high, color=colour, alpha=0.18, linewidth=0, zorder=1
        )
    (handle,) = panel.plot(
        *(line.x, line.y),
        color=colour,
        linestyle=dash,
        linewidth=1.6,
        marker="" if many else "o",
        markersize=2.5,
        zorder=3,
    )
    if line.mark is not None:
        panel.plot(
            *([line.mark[0]], [line.mark[1]]),
            marker="o",
            markersize=6.5,
            markerfacecolor="none",
            markeredgecolor=INK,
            linestyle="",
            zorder=4,
        )
    if line.crosses:
        panel.plot(
            line.crosses,
            [0.03] * len(line.crosses),
            transform=panel.get_xaxis_transform(),
            marker="x",
            markersize=5,
            color=colour,
            linestyle="",
            zorder=4,
        )
    return handle


def _finish(
    panel: Any, title: str, lines: Mapping[str, Line], axes: Axes, key: str | None = None
) -> None:
    key = title if key is None else key
    panel.set_title(mathtext(title), loc="left", fontsize=10)
    if axes.log_x:
        panel.set_xscale("log")
    if key in axes.log_y:
        panel.set_yscale("log")
    if axes.ticks:
        panel.set_xticks(axes.ticks, [f"{tick:g}" for tick in axes.ticks])
        panel.set_xticks([], minor=True)
    panel.tick_params(which="both", labelsize=8, colors=INK, labelcolor=GREY)
    panel.set_xlabel(mathtext(axes.x), fontsize=9)
    panel.set_ylabel(mathtext(axes.y[key]), fontsize=9)
    values = np.array([v for line in lines.values() for v in line.y if math.isfinite(v)])
    if axes.clip is not None and axes.clip.get(key) and len(values):
        bottom, top = float(values.min()), float(np.quantile(values, 0.9))
        reach = max(top - bottom, 1e-9)
        panel.set_ylim(bottom - 0.08 * reach, top + 0.15 * reach)
