"""An adapter as a table by kind, a tidy table by layer, advice, and a picture."""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from loram.diagnose.adapter import KEPT, Adapted
from loram.diagnose.comparing import by_kind, far_from_kind, median, named
from loram.diagnose.pictures import panels, save, styles
from loram.diagnose.report import Cell, Report, Table

__all__ = ["adapter_report"]

_FAR = 100.0  # times the median of the kind, in ν: ten times in the size of entries
_USUAL_SCALING = (0.25, 4.0)


def adapter_report(layers: Sequence[Adapted], target: str) -> Report:
    """The report of an adapter.

    Args:
        layers: measured.
        target: what the user named.
    """
    return Report(
        title=f"{target}: an adapter on {len(layers)} layers (medians)",
        summary=_summary(layers),
        tables={"adapter": _by_layer(layers), "adapter_kinds": _summary(layers)},
        advice=tuple(_advise(layers)),
        draw=lambda folder: _draw(layers, folder),
    )


def _summary(layers: Sequence[Adapted]) -> Table:
    headings = (
        *("kind", "layers", "r", "s", "β", "ν[A]", "ν[B]", "ν[W_LoRA]"),
        *("stable rank", "effective rank", f"rank of {KEPT:.0%}"),
    )
    kinds = by_kind(layers)
    groups = [*kinds.items(), *([("all", [*layers])] if len(kinds) > 1 else [])]
    return Table(headings, [_kind_row(*group) for group in groups])


def _kind_row(kind: str, layers: list[Adapted]) -> tuple[Cell, ...]:
    finite = [layer for layer in layers if layer.finite]
    return (
        kind,
        len(layers),
        median(layer.rank for layer in layers),
        median(layer.scaling for layer in layers),
        median(layer.beta for layer in layers),
        median(layer.nu_A for layer in finite),
        median(layer.nu_B for layer in finite),
        median(layer.nu_update for layer in finite),
        median(layer.stable_rank for layer in layers),
        median(layer.effective_rank for layer in layers),
        median(layer.rank_kept for layer in layers),
    )


def _by_layer(layers: Sequence[Adapted]) -> Table:
    headings = (
        *("layer", "kind", "depth", "n", "m", "rank", "scaling", "beta", "nu_A", "nu_B"),
        *("nu_update", "stable_rank", "effective_rank", "rank_kept"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            *(layer.name, layer.kind, layer.depth, *layer.shape, layer.rank, layer.scaling),
            *(layer.beta, layer.nu_A, layer.nu_B, layer.nu_update),
            *(layer.stable_rank, layer.effective_rank, layer.rank_kept),
        )
        for layer in layers
    ]
    return Table(headings, rows)


def _advise(layers: Sequence[Adapted]) -> list[str]:
    found = [([layer.name for layer in layers if wrong(layer)], says) for wrong, says in _CHECKS]
    lines = [f"{named(names)}: {says}" for names, says in found if names]
    far = far_from_kind([(x.name, x.kind, x.nu_update) for x in layers if x.finite], _FAR)
    if far:
        lines.append(
            f"{named(far)}: ν[W_LoRA] is more than {_FAR:g} times the median of the kind: these "
            "layers were trained at too high a rate, or on few and large gradients"
        )
    return [*lines, *_scaling(layers), *_rank_use(layers)]


def _dead(layer: Adapted) -> bool:
    return layer.nu_A == 0 and layer.nu_B == 0


_CHECKS: tuple[tuple[Callable[[Adapted], bool], str], ...] = (
    (
        lambda layer: not layer.finite,
        "NaN or Inf entries: training diverged; use an earlier checkpoint, or a lower rate",
    ),
    (
        _dead,
        "A = B = 0: both gradients are zero for ever, the adapter is dead. Start it otherwise",
    ),
    (
        lambda layer: layer.nu_update == 0 and not _dead(layer),
        "W_LoRA = 0: the adapter is as it started. It was not trained, or no gradient reached it",
    ),
)


def _scaling(layers: Sequence[Adapted]) -> list[str]:
    low, high = _USUAL_SCALING
    far = {f"{x.scaling:g}": x.scaling for x in layers if not low <= x.scaling <= high}
    return [
        f"s = {shown} is far from 1: under Adam this is the run at s = 1 with factors and learning "
        f"rates {value**0.5:.3g} times as large (Proposition 1), so rates of other papers and "
        "adapters do not carry over"
        for shown, value in far.items()
        if value > 0
    ]


def _rank_use(layers: Sequence[Adapted]) -> list[str]:
    used = [layer.rank_kept for layer in layers if layer.rank_kept is not None]
    if not used:
        return []
    rank = statistics.median(layer.rank for layer in layers)
    largest = max(used)
    if largest > rank / 2:
        return []
    return [
        f"every layer holds {KEPT:.0%} of its update (in ‖·‖²_F) in {largest} directions, and r is "
        f"{rank:g}: a rank of {largest} would do"
    ]


def _draw(layers: Sequence[Adapted], folder: Path) -> list[Path]:
    figure, (moved, used) = panels(2)
    moved.set_ylabel("update magnitude ν[W_LoRA]")
    moved.set_title("How far the weights have moved", loc="left", fontsize=11)
    used.set_ylabel("effective rank of the update")
    used.set_title("How much of the rank is used", loc="left", fontsize=11)
    for (kind, members), (colour, marker) in zip(by_kind(layers).items(), styles(), strict=False):
        look = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1, "label": kind}
        _line(moved, [(x.depth, x.nu_update) for x in members if x.finite and x.nu_update], look)
        _line(used, [(x.depth, x.effective_rank) for x in members if x.effective_rank], look)
    for axes in (moved, used):
        axes.set_xlabel("block")
    if any(layer.effective_rank for layer in layers):
        moved.set_yscale("log")
        used.set_ylim(bottom=0)
        moved.legend(frameon=False, fontsize=8, ncols=2)
    return save(figure, folder / "adapter")


def _line(axes: Any, points: list[tuple[int, float]], look: dict[str, Any]) -> None:
    if points:
        axes.plot(*zip(*points, strict=True), **look)
