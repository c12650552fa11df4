"""Our own figure: what runs of `loram train` moved, beside what the Adam prediction says.

The prediction needs the start, the learning rates and one number, the persistence p of the
gradients, which is between 0 and 1: hence a band. Measured is inside it as long as the prediction's
assumptions hold, and where it is inside says what p was.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from loram.dynamics import Start, adam
from loram.figures.equivalence import geometric_mean
from loram.figures.style import CYCLE, FigureError, canvas, mathtext, save, write_csv
from loram.train.rates import learning_rates
from loram.train.settings import TrainSettings

__all__ = ["Against", "draw_runs"]

Layers = dict[str, list[float]]  # name → ν[A], ν[B], ν[W_LoRA]


class Against(NamedTuple):
    """A run after its last step, in geometric means over layers.

    Attributes:
        name: of the run.
        measured: ν[W_LoRA].
        straight: measured over predicted at p = 1.
        walk: measured over predicted at p = 0.
        persistence: the p at which the prediction is what was measured; outside [0, 1] where none
            of them is.
    """

    name: str
    measured: float
    straight: float
    walk: float
    persistence: float


@dataclass(frozen=True)
class _Run:
    name: str
    starts: list[Start]
    ratio: float
    rates: list[float]
    updates: dict[int, list[float]]  # step → ν[W_LoRA] of the layers

    def predicted(self, moved: float) -> float:
        """Geometric mean of ν[W_LoRA] over layers, after a drift of D."""
        return geometric_mean([adam.update(each, moved, ratio=self.ratio) for each in self.starts])


def draw_runs(picture: Path, folders: Sequence[Path]) -> list[Against]:
    """Draw ν[W_LoRA] of runs over steps with their predicted bands, and write the data.

    Args:
        picture: PNG; SVG and CSV go to the same name.
        folders: of runs by `loram train` that have an adapter of one rank.

    Raises:
        FigureError: no folders, or one that is not such a run.
    """
    if not folders:
        raise FigureError("expected folders of runs by `loram train`, got none")
    runs = [_read(folder) for folder in folders]
    columns = min(len(runs), 3)
    lines = math.ceil(len(runs) / columns)
    figure, panels = canvas(
        lines, columns, size=(1.2 + 3.4 * columns, 0.8 + 2.9 * lines), sharex=True, sharey=True
    )
    rows: list[tuple[object, ...]] = []
    found: list[Against] = []
    for run, axes in zip(runs, panels, strict=False):
        steps = [step for step in sorted(run.updates) if min(run.updates[step]) > 0]
        if not steps:
            raise FigureError(f"{run.name}: nothing has moved, so there is nothing to draw")
        walk, straight = (
            [run.predicted(adam.drift(run.rates[:t], persistence=p)) for t in steps] for p in (0, 1)
        )
        measured = [geometric_mean(run.updates[t]) for t in steps]
        low, high = ([_quantile(run.updates[t], q) for t in steps] for q in (0.25, 0.75))
        blue, orange = CYCLE[0][0], CYCLE[1][0]
        axes.fill_between(
            *(steps, walk, straight), color=orange, alpha=0.3, linewidth=0, label="Adam prediction"
        )
        axes.plot(steps, straight, color=orange, linestyle="--", label="gradients persist, p = 1")
        axes.plot(steps, walk, color=orange, linestyle=":", label="independent, p = 0")
        axes.fill_between(
            *(steps, low, high), color=blue, alpha=0.2, linewidth=0, label="middle half of layers"
        )
        axes.plot(steps, measured, color=blue, linewidth=2, label="measured, geometric mean")
        axes.set_title(run.name, loc="left", fontsize=11)
        axes.set_yscale("log")
        found.append(_against(run, steps[-1], measured[-1], straight[-1], walk[-1]))
        rows += zip(
            *([run.name] * len(steps), steps, measured, low, high, walk, straight), strict=True
        )
    for axes in panels[len(runs) :]:
        axes.set_visible(False)
    for axes in panels[max(len(runs) - columns, 0) : len(runs)]:
        axes.set_xlabel("step")
        axes.tick_params(labelbottom=True)
    for axes in panels[::columns]:
        axes.set_ylabel(mathtext("ν[W_LoRA]"))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(2 + columns, 5),
        frameon=False,
        fontsize=9,
    )
    columns_of = ("run", "step", "nu_update", "quartile_1", "quartile_3", "walk", "straight")
    write_csv(picture, columns_of, rows)
    save(figure, picture)
    return found


def _against(run: _Run, last: int, measured: float, straight: float, walk: float) -> Against:
    """The measured end of a run beside the predicted ones; p by bisection on the drift."""
    least = adam.drift(run.rates[:last], persistence=0)
    most = adam.drift(run.rates[:last], persistence=1)
    low, high = math.log(least) - 20, math.log(most) + 20
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if run.predicted(math.exp(middle)) < measured else (low, middle)
    # After one step that moves, both ends are the same drift.
    p = (math.exp(low) - least) / (most - least) if most > least else math.nan
    return Against(run.name, measured, measured / straight, measured / walk, p)


def _read(folder: Path) -> _Run:
    """A run's start and magnitudes.

    Raises:
        FigureError: the folder is not a run with an adapter.
    """
    try:
        settings = TrainSettings.model_validate_json((folder / "settings.json").read_text())
        lines = (folder / "magnitudes.jsonl").read_text().splitlines()
    except (OSError, ValidationError) as error:
        raise FigureError(
            f"{folder}: expected the folder of a run by `loram train` with an adapter, which holds "
            f"settings.json and magnitudes.jsonl ({error})"
        ) from error
    logged = _rows(folder, lines)
    if 0 not in logged:
        raise FigureError(f"{folder}/magnitudes.jsonl: expected a line of step 0, the start")
    root = math.sqrt(settings.rank) if settings.rslora or settings.row.rslora else settings.rank
    ratio = settings.row.lr_ratio if settings.lr_ratio is None else settings.lr_ratio
    starts = [
        # The prediction under Adam does not depend on the sizes n and m.
        Start(0, 0, settings.rank, nu_A=each[0], nu_B=each[1], scaling=settings.lora_alpha / root)
        for each in logged[0].values()
    ]
    updates = {step: [each[2] for each in layers.values()] for step, layers in logged.items()}
    return _Run(
        f"{settings.method}, lr {settings.lr:g}", starts, ratio, learning_rates(settings), updates
    )


def _rows(folder: Path, lines: list[str]) -> dict[int, Layers]:
    """Step → layers. A last line that a kill left half written is not read."""
    rows: dict[int, Layers] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            rows[int(row["step"])] = row["layers"]
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise FigureError(
                f"{folder}/magnitudes.jsonl, line {number}: expected a JSON object with step and "
                f"layers ({error})"
            ) from error
    return rows


def _quantile(values: list[float], q: float) -> float:
    return sorted(values)[round(q * (len(values) - 1))]
