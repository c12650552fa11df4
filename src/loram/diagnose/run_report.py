"""A training run as curves: loss, and the update's magnitude against its prediction."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loram.diagnose.comparing import by_kind, far_from_kind, median, named
from loram.diagnose.growth import Grown, Prediction, grown, learning_rates, persistence_of
from loram.diagnose.log import RunLog, Step
from loram.diagnose.names import kind_of
from loram.diagnose.pictures import GREY, panels, save, styles
from loram.diagnose.report import Cell, Report, Table

__all__ = ["run_report"]

_FAR = 100.0  # times the median of the kind, in ν
_OUTSIDE = 2.0  # times the edge of the predicted band, in ν


class _Layer:
    """One layer at the last step."""

    def __init__(
        self,
        name: str,
        first: Step,
        last: Step,
        prediction: Prediction | None,
        weight: float | None,
    ) -> None:
        self.name, self.kind = name, kind_of(name.partition("[")[0])
        self.weight = weight  # ν[W]
        self.start, self.end = first.layers.get(name), last.layers[name]
        self.prediction = prediction

    @property
    def relative(self) -> float | None:
        """ν[W_LoRA] / ν[W]."""
        return self.end.update / self.weight if self.weight else None


def run_report(run: RunLog, target: str) -> Report:
    """The report of a run.

    Args:
        run: its folder, read.
        target: what the user named.
    """
    history = grown(run)
    layers = _last(run, history)
    reached = max([step for step, _ in run.losses] + [step.step for step in run.steps])
    settings = run.settings
    return Report(
        title=(
            f"{target}: {settings.method}, lr {settings.lr:g}, step {reached} of {settings.steps} "
            "(medians)"
        ),
        summary=_summary(layers) if layers else _losses(run),
        tables={"run": _curves(run, history), "run_layers": _by_layer(layers)},
        advice=tuple(_advise(run, layers)),
        draw=lambda folder: _draw(run, history, folder),
    )


def _last(run: RunLog, history: Sequence[Grown]) -> list[_Layer]:
    if not run.steps:
        return []
    known = history[-1].layers if history else {}
    first, last = run.steps[0], run.steps[-1]
    return [
        _Layer(name, first, last, known.get(name), run.weights.get(name)) for name in last.layers
    ]


def _losses(run: RunLog) -> Table:
    (_, first), (_, last) = run.losses[0], run.losses[-1]
    return Table(("steps", "first loss", "last loss"), [(len(run.losses), first, last)])


def _summary(layers: Sequence[_Layer]) -> Table:
    headings = (
        *("kind", "layers", "ν[A] start", "ν[A] now", "ν[B] now", "ν[W_LoRA]", "/ν[W]"),
        *("predicted p=0", "predicted p=1", "p"),
    )
    kinds = by_kind(layers)
    groups = [*kinds.items(), *([("all", [*layers])] if len(kinds) > 1 else [])]
    return Table(headings, [_kind_row(*group) for group in groups])


def _kind_row(kind: str, layers: list[_Layer]) -> tuple[Cell, ...]:
    known = [layer.prediction for layer in layers if layer.prediction]
    return (
        kind,
        len(layers),
        median(layer.start.A if layer.start else None for layer in layers),
        median(layer.end.A for layer in layers),
        median(layer.end.B for layer in layers),
        median(layer.end.update for layer in layers),
        median(layer.relative for layer in layers),
        median(each.walk for each in known),
        median(each.straight for each in known),
        median(persistence_of(each) for each in known),
    )


def _curves(run: RunLog, history: Sequence[Grown]) -> Table:
    headings = (
        *("step", "lr", "loss", "nu_update_low_quartile", "nu_update_median"),
        *("nu_update_high_quartile", "predicted_p0", "predicted_p1"),
    )
    rates, losses = learning_rates(run.settings), dict(run.losses)
    moved = {each.step: each for each in history}
    rows: list[tuple[Cell, ...]] = []
    for step in sorted({*losses, *moved}):
        rate = rates[step - 1] if 0 < step <= len(rates) else None
        known: tuple[Cell, ...] = (None,) * 5
        if step in moved:
            middle = moved[step].median()
            known = (*_quartiles(moved[step]), middle.walk, middle.straight)
        rows.append((step, rate, losses.get(step), *known))
    return Table(headings, rows)


def _quartiles(step: Grown) -> tuple[float, float, float]:
    values = sorted(layer.measured for layer in step.layers.values())
    low, middle, high = (values[int(q * (len(values) - 1))] for q in (0.25, 0.5, 0.75))
    return low, statistics.median(values) if values else middle, high


def _by_layer(layers: Sequence[_Layer]) -> Table:
    headings = (
        *("layer", "kind", "nu_A_start", "nu_B_start", "nu_A", "nu_B", "nu_update"),
        *("nu_weight", "predicted_p0", "predicted_p1", "persistence"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            *(layer.name, layer.kind),
            *((layer.start.A, layer.start.B) if layer.start else (None, None)),
            *layer.end,
            layer.weight,
            *(
                (layer.prediction.walk, layer.prediction.straight)
                if layer.prediction
                else (None,) * 2
            ),
            persistence_of(layer.prediction) if layer.prediction else None,
        )
        for layer in layers
    ]
    return Table(headings, rows)


def _advise(run: RunLog, layers: Sequence[_Layer]) -> list[str]:
    return [*_torn(run), *_loss(run), *_still(run, layers), *_band(layers), *_far(layers)]


def _torn(run: RunLog) -> list[str]:
    return [f"{where}: broken, as a killed run leaves it; read up to there" for where in run.torn]


def _loss(run: RunLog) -> list[str]:
    values = [loss for _, loss in run.losses]
    if not all(map(math.isfinite, values)):
        step = next(step for step, loss in run.losses if not math.isfinite(loss))
        return [f"the loss is not finite from step {step} on: use a lower learning rate"]
    part = len(values) // 5
    if part == 0:  # too few steps to tell a trend from the batches' noise
        return []
    first, last = statistics.fmean(values[:part]), statistics.fmean(values[-part:])
    if last <= first:
        return []
    return [
        f"the loss rose, from {first:.3g} in the first fifth of the run to {last:.3g} in the last: "
        f"lr {run.settings.lr:g} is too high for this method here"
    ]


def _still(run: RunLog, layers: Sequence[_Layer]) -> list[str]:
    moved = sum(learning_rates(run.settings)[: run.steps[-1].step]) if run.steps else 0.0
    names = [layer.name for layer in layers if layer.end.update == 0]
    if not names or moved == 0:  # warm-up starts at a rate of 0
        return []
    return [
        f"{named(names)}: W_LoRA is still zero: both factors are zero, or no gradient reaches them"
    ]


def _band(layers: Sequence[_Layer]) -> list[str]:
    known = [(layer.name, layer.prediction) for layer in layers if layer.prediction]
    above = [name for name, p in known if p.measured > _OUTSIDE * p.straight]
    below = [name for name, p in known if 0 < p.measured < p.walk / _OUTSIDE]
    lines: list[str] = []
    if above:
        lines.append(
            f"{named(above)}: moved over {_OUTSIDE:g} times as far (in ν) as Adam can at these "
            "rates with gradients that never turn: the log is of another run or optimiser"
        )
    if below:
        lines.append(
            f"{named(below)}: moved less than half as far (in ν) as a random walk of Adam's steps: "
            "gradients that vanish, or turn at every step"
        )
    return lines


def _far(layers: Sequence[_Layer]) -> list[str]:
    values = [(x.name, x.kind, x.end.update) for x in layers if math.isfinite(x.end.update)]
    far = far_from_kind(values, _FAR)
    broken = [layer.name for layer in layers if not math.isfinite(layer.end.update)]
    lines = (
        [f"{named(broken)}: ν[W_LoRA] is not finite: use a lower learning rate"] if broken else []
    )
    if far:
        lines.append(f"{named(far)}: ν[W_LoRA] is more than {_FAR:g} times the median of the kind")
    return lines


def _draw(run: RunLog, history: Sequence[Grown], folder: Path) -> list[Path]:
    drawn = [
        *([_draw_loss] if run.losses else []),
        *([_draw_growth] if any(each.median().measured > 0 for each in history) else []),
    ]
    if not drawn:
        return []
    figure, axes = panels(len(drawn))
    for one, draw in zip(axes, drawn, strict=True):
        one.set_xlabel("step")
        one.xaxis.get_major_locator().set_params(integer=True)
        draw(one, run, history)
    return save(figure, folder / "run")


def _draw_loss(axes: Any, run: RunLog, history: Sequence[Grown]) -> None:
    colour, _ = next(styles())
    axes.plot(*zip(*run.losses, strict=True), color=colour, linewidth=1.2)
    axes.set_ylabel("training loss (nats per answer token)")
    axes.set_title("Loss on the batches", loc="left", fontsize=11)


def _draw_growth(axes: Any, run: RunLog, history: Sequence[Grown]) -> None:
    colour, _ = next(styles())
    moved = [each for each in history if each.median().walk > 0 and each.median().measured > 0]
    steps = [each.step for each in moved]
    middle = [each.median() for each in moved]
    low, _, high = zip(*map(_quartiles, moved), strict=True)
    walk, straight = [p.walk for p in middle], [p.straight for p in middle]
    axes.fill_between(steps, walk, straight, color=GREY, alpha=0.18, linewidth=0)
    axes.plot(
        steps, straight, color=GREY, linestyle="--", label="predicted, gradients persist (p = 1)"
    )
    axes.plot(
        steps, walk, color=GREY, linestyle=":", label="predicted, gradients independent (p = 0)"
    )
    axes.fill_between(steps, low, high, color=colour, alpha=0.25, linewidth=0)
    axes.plot(
        *(steps, [p.measured for p in middle]),
        color=colour,
        linewidth=2,
        label="measured, median layer and middle half",
    )
    axes.set_yscale("log")
    axes.set_ylabel("update magnitude ν[W_LoRA]")
    axes.set_title("How far the weights have moved", loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
