"""Figure 2b: how fast ν[W_LoRA] grows from different starts, beside Proposition 2's lines.

Two panels. Without signal in the targets the gradients of the testbed are what the proposition
assumes, independent from step to step, and its lines are met. With signal they persist: if two
batches' gradients have a mean inner product of p times ‖G‖², the sum of t of them has

    E‖ΣG‖² = ‖G‖² ((1 − p) t + p t²)

instead of ‖G‖² t, and the update grows by that much faster. p is measured before training, so that
the dotted line is a prediction too.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from loram.dynamics import Settings, Start, growth
from loram.figures.equivalence import geometric_mean
from loram.figures.mlp import Gradients, Network, gaussian_factors, train_factors, train_weights
from loram.figures.style import CYCLE, GREY, canvas, mathtext, save, write_csv

__all__ = ["STARTS", "Ratio", "draw_growth"]

STARTS: dict[str, tuple[float, float]] = {
    "LoRA, σ_A² = 1/m, B⁰ = 0": (1.0, 0.0),
    "LoRA, σ_A² = 4/m, B⁰ = 0": (4.0, 0.0),
    "σ_A² = σ_B² = 1/m": (1.0, 1.0),
    "σ_A² = σ_B² = 4/m": (4.0, 4.0),
}
"""Names → m σ_A² and m σ_B²; the linear layer stands beside them."""

LINEAR = "linear layer (W itself)"


class Ratio(NamedTuple):
    """Of one curve after its last step.

    Attributes:
        signal: δ of the targets.
        start: name of the start.
        predicted: measured ν over Proposition 2's.
        persistent: measured ν over the prediction with the measured persistence.
        k1: measured ν over the paper's k₁γt.
    """

    signal: float
    start: str
    predicted: float
    persistent: float
    k1: float


@dataclass(frozen=True)
class _Curve:
    """Geometric means over layers, one value a step."""

    measured: list[float]
    predicted: list[float]
    persistent: list[float]
    k1: list[float]


def draw_growth(
    picture: Path,
    *,
    network: Network | None = None,
    signals: tuple[float, float] = (0.0, 0.2),
    r: int = 25,
    lr: float = 5e-5,
    steps: int = 200,
    tick: Callable[[int], None] = lambda n: None,
) -> list[Ratio]:
    """Draw ν[W_LoRA] under SGD from several starts with the predicted lines, and write its data.

    Args:
        picture: PNG; SVG and CSV go to the same name.
        network: the testbed; by default the paper's size.
        signals: δ of the two panels.
        r: rank.
        lr: η.
        steps: of every run.
        tick: told of every run that is done.

    Returns:
        Measured over predicted at the last step, for every curve.
    """
    network = network or Network()
    seen = sorted({round(steps ** (i / 30)) for i in range(31)})
    figure, panels = canvas(1, len(signals), size=(9.6, 4.6), sharey=True)
    rows: list[tuple[object, ...]] = []
    ratios: list[Ratio] = []
    for axes, signal in zip(panels, signals, strict=True):
        testbed = replace(network, signal=signal)
        gradients = testbed.gradients()
        curves = {LINEAR: _linear(testbed, gradients, lr, seen)}
        tick(1)
        for name, (a, b) in STARTS.items():
            curves[name] = _low_rank(testbed, gradients, r, a, b, lr, seen)
            tick(1)
        for (name, curve), (colour, _) in zip(curves.items(), CYCLE, strict=False):
            axes.plot(seen, curve.k1, color=colour, linewidth=0.7)
            axes.plot(seen, curve.predicted, color=colour, linewidth=1.6, linestyle="--")
            axes.plot(seen, curve.persistent, color=colour, linewidth=1.4, linestyle=":")
            axes.plot(
                *(seen, curve.measured),
                **{"color": colour, "linestyle": "none", "marker": "o", "markersize": 3.6},
                label=mathtext(name),
            )
            last = {key: curve.measured[-1] / line[-1] for key, line in _lines(curve).items()}
            ratios.append(Ratio(signal, name, **last))
            rows += [
                (signal, name, step, *values)
                for step, *values in zip(seen, curve.measured, *_lines(curve).values(), strict=True)
            ]
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("step")
        of_batches = sum(each.persistence for each in gradients) / len(gradients)
        what = "noise alone" if signal == 0 else f"signal δ = {signal:g}"
        axes.set_title(
            f"Targets: {what} (persistence p = {abs(of_batches):.2f})", loc="left", fontsize=11
        )
    panels[0].set_ylabel(
        mathtext("update magnitude ν[W_LoRA] or ν[ΔW]\n(geometric mean of layers)")
    )
    panels[0].plot([], [], color=GREY, linestyle="--", label="Proposition 2")
    panels[0].plot([], [], color=GREY, linewidth=0.7, label=mathtext("the paper's k₁γt"))
    panels[0].plot([], [], color=GREY, linestyle=":", label="the same with persistence p")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    columns = ("signal", "start", "step", "nu_update", "proposition2", "with_persistence", "k1")
    write_csv(picture, columns, rows)
    save(figure, picture)
    return ratios


def _lines(curve: _Curve) -> dict[str, list[float]]:
    return {"predicted": curve.predicted, "persistent": curve.persistent, "k1": curve.k1}


def _persist(steps: list[int], p: float) -> list[float]:
    """E‖ΣG‖² over t‖G‖² after t steps: 1 + p(t − 1)."""
    return [1 + max(p, 0.0) * (t - 1) for t in steps]


def _linear(network: Network, gradients: list[Gradients], lr: float, steps: list[int]) -> _Curve:
    """Full training grows as γt, γ = η²σ_L²: the paper's k₁ = 1."""
    found = train_weights(network, Settings(lr_A=lr, optimizer="sgd"), steps)
    line = [[lr**2 * each.nu * t for t in steps] for each in gradients]
    return _curve(found, steps, line, line, gradients)


def _low_rank(
    network: Network,
    gradients: list[Gradients],
    r: int,
    a: float,
    b: float,
    lr: float,
    steps: list[int],
) -> _Curve:
    m = network.width
    start = Start(n=m, m=m, r=r, nu_A=a / m, nu_B=b / m)
    factors = gaussian_factors(network, r, start.nu_A, start.nu_B, seed=network.seed)
    found = train_factors(network, factors, Settings(lr_A=lr, optimizer="sgd"), steps)
    line = [
        [
            each.update
            for each in growth.magnitudes(start, gradient=G.nu, lr_A=lr, lr_B=lr, steps=steps)
        ]
        for G in gradients
    ]
    k1 = growth.k1(start)
    return _curve(
        found, steps, line, [[k1 * lr**2 * G.nu * t for t in steps] for G in gradients], gradients
    )


def _curve(
    found: dict[int, list[float]],
    steps: list[int],
    line: list[list[float]],
    k1: list[list[float]],
    gradients: list[Gradients],
) -> _Curve:
    """Geometric means of what is given layer by layer."""
    persistent = [
        [value * more for value, more in zip(layer, _persist(steps, G.persistence), strict=True)]
        for layer, G in zip(line, gradients, strict=True)
    ]

    def mean(layers: list[list[float]]) -> list[float]:
        return [geometric_mean(list(values)) for values in zip(*layers, strict=True)]

    return _Curve(
        measured=[geometric_mean(found[t]) for t in steps],
        predicted=mean(line),
        persistent=mean(persistent),
        k1=mean(k1),
    )
