"""Our own figure: what runs of `loram train` moved, beside what the Adam prediction says.

The prediction needs the start, the learning rates and one number, the persistence p of the
gradients, which is between 0 and 1: hence a band. Where in it the measurement lies says what p was.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from loram.diagnose.errors import DiagnoseError
from loram.diagnose.growth import Grown, Prediction, grown, persistence_of
from loram.diagnose.log import read_run
from loram.figures.equivalence import geometric_mean
from loram.figures.style import CYCLE, FigureError, canvas, mathtext, save, write_csv

__all__ = ["Against", "draw_runs"]


class Against(NamedTuple):
    """A run after its last step, in geometric means over layers.

    Attributes:
        name: of the run.
        measured: ν[W_LoRA].
        straight: measured over predicted at p = 1.
        walk: measured over predicted at p = 0.
        persistence: the p at which the prediction is what was measured, outside [0, 1] where none
            is; None where both ends of the band are the same.
    """

    name: str
    measured: float
    straight: float
    walk: float
    persistence: float | None


def draw_runs(picture: Path, folders: Sequence[Path]) -> list[Against]:
    """Draw ν[W_LoRA] of runs over steps with their predicted bands, and write the data.

    Args:
        picture: PNG; SVG and CSV go to the same name.
        folders: of runs by `loram train` that have an adapter.

    Raises:
        FigureError: no folders, or one that is not such a run.
    """
    if not folders:
        raise FigureError("expected folders of runs by `loram train`, got none")
    runs = [_read(folder) for folder in folders]
    columns = 2 if len(runs) == 4 else min(len(runs), 3)
    lines = math.ceil(len(runs) / columns)
    figure, panels = canvas(
        lines, columns, size=(1.2 + 3.4 * columns, 0.8 + 2.9 * lines), sharex=True, sharey=True
    )
    rows: list[tuple[object, ...]] = []
    found: list[Against] = []
    blue, orange = CYCLE[0][0], CYCLE[1][0]
    for (name, history), axes in zip(runs, panels, strict=False):
        steps = [each.step for each in history]
        means = [_mean(each) for each in history]
        walk, straight = [each.walk for each in means], [each.straight for each in means]
        measured = [each.measured for each in means]
        low, high = ([_quantile(each, q) for each in history] for q in (0.25, 0.75))
        axes.fill_between(
            *(steps, walk, straight), color=orange, alpha=0.3, linewidth=0, label="Adam prediction"
        )
        axes.plot(steps, straight, color=orange, linestyle="--", label="gradients persist, p = 1")
        axes.plot(steps, walk, color=orange, linestyle=":", label="independent, p = 0")
        axes.fill_between(
            *(steps, low, high), color=blue, alpha=0.2, linewidth=0, label="middle half of layers"
        )
        axes.plot(steps, measured, color=blue, linewidth=2, label="measured, geometric mean")
        axes.set_title(name, loc="left", fontsize=11)
        axes.set_yscale("log")
        last = means[-1]
        found.append(
            Against(
                name,
                last.measured,
                last.measured / last.straight,
                last.measured / last.walk,
                persistence_of(last),
            )
        )
        rows += [
            (name, *values)
            for values in zip(steps, measured, low, high, walk, straight, strict=True)
        ]
    for axes in panels[len(runs) :]:
        axes.set_visible(False)
    for axes in panels[max(len(runs) - columns, 0) : len(runs)]:
        axes.set_xlabel("step")
        axes.tick_params(labelbottom=True)
    for axes in panels[::columns]:
        axes.set_ylabel(mathtext("update magnitude ν[W_LoRA]"))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        *(handles, labels), loc="outside lower center", ncols=columns, frameon=False, fontsize=9
    )
    headings = ("run", "step", "nu_update", "quartile_1", "quartile_3", "predicted_p0")
    write_csv(picture, (*headings, "predicted_p1"), rows)
    save(figure, picture)
    return found


def _read(folder: Path) -> tuple[str, list[Grown]]:
    """A run's name, and its steps from the first that has moved every layer.

    Raises:
        FigureError: the folder is not a run with an adapter that has moved.
    """
    try:
        run = read_run(folder)
    except DiagnoseError as error:
        raise FigureError(
            f"{folder}: expected the folder of a run by `loram train`: {error}"
        ) from error
    history = [
        each
        for each in grown(run)
        if min(min(p.measured, p.walk) for p in each.layers.values()) > 0
    ]
    if not history:
        raise FigureError(
            f"{folder}: expected a run with an adapter and some steps, got no magnitudes that grow "
            "from a step 0 (full fine-tuning logs none)"
        )
    return f"{run.settings.method}, lr {run.settings.lr:.3g}", history


def _mean(step: Grown) -> Prediction:
    """Geometric means over layers."""
    layers = step.layers.values()
    return Prediction(
        measured=geometric_mean([each.measured for each in layers]),
        walk=geometric_mean([each.walk for each in layers]),
        straight=geometric_mean([each.straight for each in layers]),
    )


def _quantile(step: Grown, q: float) -> float:
    values = sorted(each.measured for each in step.layers.values())
    return values[round(q * (len(values) - 1))]
