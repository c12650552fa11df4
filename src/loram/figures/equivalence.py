"""Figure 2a: settings that look different and move the weights alike (Proposition 1)."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from loram.dynamics import Settings, equivalent
from loram.dynamics.equivalence import Optimizer
from loram.figures.mlp import Network, gaussian_factors, train_factors
from loram.figures.style import CYCLE, INK, canvas, mathtext, save, write_csv

__all__ = ["PARTS", "Apart", "draw_equivalence", "geometric_mean"]

PARTS: dict[str, tuple[float, float]] = {
    "as it is": (0.0, 0.0),
    "half in η_B": (0.0, 0.5),
    "all in η_B": (0.0, 1.0),
    "all in A⁰ and η_A": (1.0, 0.0),
    "half in A⁰ and η_A, half in η_B": (0.5, 0.5),
}
"""Where the scaling is written → the powers of s that move into A and into B."""


PLAIN = "s = 1, nothing else changed"


class Apart(NamedTuple):
    """Runs under one optimiser.

    Attributes:
        optimizer: its name.
        equivalent: largest relative difference of ν[W_LoRA] between equivalent runs, over steps.
        plain: ν[W_LoRA] of those over that of the run at s = 1, after the last step.
    """

    optimizer: str
    equivalent: float
    plain: float


def draw_equivalence(
    picture: Path,
    *,
    network: Network | None = None,
    r: int = 25,
    scaling: float = 16.0,
    lr: float = 5e-5,
    steps: int = 200,
    tick: Callable[[int], None] = lambda n: None,
) -> list[Apart]:
    """Draw ν[W_LoRA] over steps, under SGD and Adam, and write its data.

    Args:
        picture: PNG; SVG and CSV go to the same name.
        network: the testbed; by default the paper's size, 5 layers of width 400.
        r: rank.
        scaling: s.
        lr: η of both factors as the scaling is written first.
        steps: of every run.
        tick: told of every run that is done.

    Returns:
        How far apart the runs end up, for each optimiser.
    """
    network = network or Network()
    start = gaussian_factors(network, r, 1 / network.width, 0.0, seed=network.seed)
    seen = sorted({round(i * steps / 40) for i in range(41)} | {0})
    figure, panels = canvas(1, 2, size=(9.6, 4.2))
    rows: list[tuple[object, ...]] = []
    found_apart: list[Apart] = []
    optimizers: tuple[tuple[Optimizer, str], ...] = (("sgd", "SGD"), ("adam", "Adam"))
    for axes, (optimizer, title) in zip(panels, optimizers, strict=True):
        # B⁰ = 0, the paper's Noise & Zeros.
        run = Settings(scaling=scaling, size_B=0.0, lr_A=lr, optimizer=optimizer)
        runs: dict[str, Settings] = {}
        for where, (part_A, part_B) in PARTS.items():
            settings = equivalent(run, scaling**part_A, scaling**part_B)
            runs[f"s = {settings.scaling:g}, {where}"] = settings
        plain = Settings(scaling=1.0, size_B=0.0, lr_A=lr, optimizer=optimizer)
        curves: dict[str, list[float]] = {}
        for name, settings in {**runs, PLAIN: plain}.items():
            found = train_factors(network, start, settings, seen)
            curves[name] = [geometric_mean(found[step]) for step in seen]
            rates = (settings.lr_A, settings.rate_B)
            rows += [
                (*(optimizer, name, settings.scaling, settings.size_A), *rates, step, value)
                for step, value in zip(seen, curves[name], strict=True)
            ]
            tick(1)
        first, *others = (curves[name] for name in runs)
        found_apart.append(
            Apart(
                title,
                max(
                    abs(b / a - 1)
                    for other in others
                    for a, b in zip(first, other, strict=True)
                    if a > 0
                ),
                first[-1] / curves[PLAIN][-1],
            )
        )
        for i, (name, curve) in enumerate(curves.items()):
            colour, _ = CYCLE[i % len(CYCLE)]
            # Marks of the equivalent runs at different steps, or the last would hide the others.
            mine = name in runs
            every = (1 + i * 7 % 35, 35) if mine else None
            axes.plot(
                seen[1:],
                curve[1:],
                color=colour if mine else INK,
                linestyle="-" if mine else "--",
                linewidth=2.4 - 0.4 * i if mine else 1.6,
                marker="osD^v"[i] if mine else None,
                markersize=7,
                markeredgecolor="white",
                markevery=every,
                label=mathtext(name),
            )
        axes.set_yscale("log")
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel("step")
        axes.margins(x=0.02)
    panels[0].set_ylabel(mathtext("update magnitude ν[W_LoRA]\n(geometric mean of layers)"))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    write_csv(
        picture,
        ("optimizer", "run", "s", "size_A", "lr_A", "lr_B", "step", "nu_update"),
        rows,
    )
    save(figure, picture)
    return found_apart


def geometric_mean(values: list[float]) -> float:
    """Over layers; 0 where one of them has not moved."""
    if min(values) <= 0:
        return 0.0
    return math.exp(math.fsum(map(math.log, values)) / len(values))
