"""A checkpoint's layers as a table by kind, a tidy table by layer, and a picture."""

from pathlib import Path
from typing import Any

from loram.diagnose.comparing import by_kind, median
from loram.diagnose.pictures import GREY, panels, save, styles
from loram.diagnose.report import Cell, Report, Table
from loram.diagnose.weights import Layer, Weights
from loram.diagnose.weights_advice import advise

__all__ = ["weights_report"]


def weights_report(weights: Weights, target: str) -> Report:
    """The report of a checkpoint.

    Args:
        weights: measured.
        target: what the user named.
    """
    return Report(
        title=f"{target}: {len(weights.layers)} linear layers, r = {weights.rank} (medians)",
        summary=_summary(weights),
        tables={"layers": _by_layer(weights), "kinds": _summary(weights)},
        advice=tuple(advise(weights)),
        draw=lambda folder: _draw(weights, folder),
    )


def _summary(weights: Weights) -> Table:
    measured = weights.spectrum != "none"
    headings = ("kind", "layers", "n × m", "ν[W]", "log gain", "β")
    if measured:
        headings += ("ρ[r]", "Q[r]", "Q error", "log/Q")
    kinds = by_kind(weights.layers)
    groups = [*kinds.items(), *([("all", [*weights.layers])] if len(kinds) > 1 else [])]
    return Table(headings, [_kind_row(*group, weights.rank, measured) for group in groups])


def _kind_row(kind: str, layers: list[Layer], rank: int, measured: bool) -> tuple[Cell, ...]:
    shapes = {layer.shape for layer in layers}
    row: tuple[Cell, ...] = (
        kind,
        len(layers),
        " × ".join(map(str, shapes.pop())) if len(shapes) == 1 else "several",
        median(layer.nu if layer.finite else None for layer in layers),
        median(layer.log_gain for layer in layers),
        median(layer.beta for layer in layers),
    )
    if not measured:
        return row
    return (
        *row,
        median(_rho(layer, rank) for layer in layers),
        median(layer.gain.low if layer.gain else None for layer in layers),
        max((layer.gain.high - layer.gain.low for layer in layers if layer.gain), default=None),
        median(_log_over_spectral(layer) for layer in layers),
    )


def _by_layer(weights: Weights) -> Table:
    headings = (
        *("layer", "kind", "depth", "n", "m", "dtype", "rank", "nu_W", "constant"),
        *("log_gain", "beta", "rho", "Q", "Q_high", "log_gain_over_Q"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            *(layer.name, layer.kind, layer.depth, *layer.shape, layer.dtype, weights.rank),
            *(layer.nu, int(layer.constant), layer.log_gain, layer.beta),
            _rho(layer, weights.rank),
            layer.gain.low if layer.gain else None,
            layer.gain.high if layer.gain else None,
            _log_over_spectral(layer),
        )
        for layer in weights.layers
    ]
    return Table(headings, rows)


def _rho(layer: Layer, rank: int) -> float | None:
    """ρ[r] = Q[r] min(n, m) / r (eq. 8 and 10)."""
    return layer.gain.low * min(layer.shape) / rank if layer.gain else None


def _log_over_spectral(layer: Layer) -> float | None:
    if layer.gain is None or layer.log_gain is None or layer.gain.low == 0:
        return None
    return layer.log_gain / layer.gain.low


def _draw(weights: Weights, folder: Path) -> list[Path]:
    measured = any(layer.gain for layer in weights.layers)
    figure, axes = panels(2 if measured else 1)
    _draw_depth(axes[0], weights)
    if measured:
        _draw_gains(axes[1], weights)
    return save(figure, folder / "layers")


def _draw_depth(axes: Any, weights: Weights) -> None:
    axes.set_xlabel("block")
    axes.set_ylabel("magnitude ν[W] = mean square")
    axes.set_title("How large the weights are", loc="left", fontsize=11)
    for (kind, layers), (colour, marker) in zip(
        by_kind(weights.layers).items(), styles(), strict=False
    ):
        shown = [layer for layer in layers if layer.finite and layer.nu > 0]
        axes.plot(
            [layer.depth for layer in shown],
            [layer.nu for layer in shown],
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1,
            label=kind,
        )
    axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=8, ncols=2)


def _draw_gains(axes: Any, weights: Weights) -> None:
    kinds = by_kind(layer for layer in weights.layers if layer.gain)
    axes.set_ylabel(f"gain at r = {weights.rank}")
    axes.set_title("Spectral gain of each layer against the log gain", loc="left", fontsize=11)
    for x, (layers, (colour, marker)) in enumerate(zip(kinds.values(), styles(), strict=False)):
        # From left to right within a kind: from the first block to the last.
        spread = [x - 0.3 + 0.6 * i / max(len(layers) - 1, 1) for i in range(len(layers))]
        gains = [layer.gain.low for layer in layers if layer.gain]
        label = "spectral gain Q[r], first to last block" if x == 0 else None
        axes.plot(spread, gains, marker, color=colour, markersize=3.5, label=label)
        for gain in {layer.log_gain for layer in layers}:
            axes.hlines(
                *(gain, x - 0.38, x + 0.38),
                color=GREY,
                linewidth=2,
                label="log gain, log r / log min(n, m)" if x == 0 else None,
            )
    axes.set_xticks(range(len(kinds)), kinds, rotation=30, ha="right", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
