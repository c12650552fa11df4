"""Two pictures of a run: its learning curve, and its AUC (or NDCG) by how much a user had met."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from loram.figures.style import CYCLE, GREY, canvas, save, write_csv
from loram.recommend.errors import RecommendError
from loram.recommend.intervals import Interval, bootstrap, mean_interval
from loram.recommend.metrics import SortedScores
from loram.recommend.ranking import of_candidates

__all__ = ["draw"]

_BINS = 5


def draw(out: Path) -> list[Path]:
    """Pictures of a finished run, with SVG and CSV beside them.

    Raises:
        RecommendError: the run is not finished.
        FigureError: matplotlib is not installed.
    """
    return [_learning_curve(out), _by_history(out)]


def _learning_curve(out: Path) -> Path:
    losses, judged = _lines(out / "losses.jsonl"), _lines(out / "judged.jsonl")
    figure, panels = canvas(1, 2 if judged else 1, size=(9 if judged else 6, 3.6))
    place = {(line["stage"], line["step"]): i + 1 for i, line in enumerate(losses)}
    colour, _ = CYCLE[0]
    panels[0].plot(range(1, len(losses) + 1), [line["loss"] for line in losses], color=colour)
    panels[0].set(xlabel="step", ylabel="training loss")
    if judged:
        steps = [place[line["stage"], line["step"]] for line in judged]
        panels[1].plot(steps, [line["valid"] for line in judged], "o-", color=colour)
        panels[1].set(xlabel="step", ylabel="validation metric")
    for axes in panels:
        for before, line in pairwise(losses):
            if line["stage"] != before["stage"]:
                axes.axvline(place[line["stage"], line["step"]] - 0.5, color=GREY, linestyle=":")
    picture = save(figure, out / "learning_curve.png")
    rows = [(line["stage"], line["step"], "loss", line["loss"]) for line in losses]
    rows += [(line["stage"], line["step"], "valid", line["valid"]) for line in judged]
    write_csv(picture, ("stage", "step", "what", "value"), rows)
    return picture


def _by_history(out: Path) -> Path:
    lines = _lines(out / "scores.jsonl")
    met = np.asarray([line["met_before"] for line in lines])
    ranked = "candidates" in lines[0]
    figure, (axes,) = canvas(size=(7, 4.2))
    rows: list[tuple[Any, ...]] = []
    edges = np.unique(np.quantile(met, np.linspace(0, 1, _BINS + 1)))
    bins = np.clip(np.searchsorted(edges, met, side="right") - 1, 0, max(len(edges) - 2, 0))
    for index, name in enumerate(lines[0]["scores"]):
        points: list[tuple[float, Interval]] = []
        for each in np.unique(bins):
            mine = [line for line, own in zip(lines, bins, strict=True) if own == each]
            found = _metric(mine, name, ranked)
            if not np.isnan(found.value):
                middle = float(np.median(met[bins == each]))
                points.append((middle, found))
                rows.append((name, middle, len(mine), *found))
        colour, dash = CYCLE[index % len(CYCLE)]
        x, values = [m for m, _ in points], [f.value for _, f in points]
        axes.plot(x, values, dash, marker="o", color=colour, label=name)
        if points:
            low, high = [f.low for _, f in points], [f.high for _, f in points]
            axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    metric = "NDCG@5" if ranked else "AUC"
    axes.set(xlabel="interactions of the user before the target (median of the bin)", ylabel=metric)
    axes.legend(fontsize="small")
    picture = save(figure, out / "by_history.png")
    write_csv(picture, ("scores", "met_before", "examples", metric.lower(), "low", "high"), rows)
    return picture


def _metric(lines: Sequence[dict[str, Any]], name: str, ranked: bool) -> Interval:
    _, user = np.unique([str(line["user"]) for line in lines], return_inverse=True)
    score = np.asarray([line["scores"][name] for line in lines], dtype=np.float64)
    if ranked:
        target = np.asarray([line["candidates"].index(line["item"]) for line in lines])
        return mean_interval(of_candidates(target, score, (5,))["ndcg@5"], user, resamples=200)
    label = np.asarray([float(line["label"]) for line in lines])
    return bootstrap(SortedScores(label, score).auc, user, resamples=200)


def _lines(file: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise RecommendError(
            f"can't read {file}: expected a file of a finished run ({error})"
        ) from error
