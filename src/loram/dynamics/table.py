"""Proposition 1 for a user's own numbers: every usual way to write the same run.

>>> equivalents(Settings(scaling=2.0, lr_A=1e-4), rank=16)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loram.dynamics.equivalence import Settings, equivalent

__all__ = ["Equivalent", "as_table", "equivalents", "notes"]


_ADAPTIVE = ("adam", "adamw")


@dataclass(frozen=True, slots=True)
class Equivalent:
    """One way to write a run.

    Attributes:
        name: where the scaling is written.
        settings: of the run; `size_A` and `size_B` are relative to the user's own A⁰ and B⁰.
        alpha: the `lora_alpha` that gives its scaling, s r.
        alpha_rslora: the `lora_alpha` that gives it with `use_rslora`, s √r.
    """

    name: str
    settings: Settings
    alpha: float
    alpha_rslora: float

    @property
    def ratio(self) -> float:
        """η_B/η_A, LoRA+'s."""
        return self.settings.rate_B / self.settings.lr_A

    @property
    def stock(self) -> bool:
        """Whether the initial factors stay as they are, so that alpha and the rates are all."""
        return self.settings.size_A == 1 and self.settings.size_B in (0, 1)


def equivalents(run: Settings, rank: int) -> list[Equivalent]:
    """The user's run, and the same run with its scaling elsewhere.

    At s = 1 (`lora_alpha = r`) with all of s in B's learning rate (LoRA+), shared by both factors,
    or all in A; and at s = √r (`lora_alpha = r` with `use_rslora`), the rest in B's rate. A row
    that would repeat an earlier one is left out.

    Args:
        run: with `size_A = 1`, and `size_B` 1, or 0 for a zero B.
        rank: r ≥ 1.

    Raises:
        ValueError: a rank below 1.
    """
    if rank < 1:
        raise ValueError(f"expected a rank ≥ 1, got {rank}")
    s, root = run.scaling, math.sqrt(run.scaling)
    found = {
        "as given": run,
        "s = 1, all in B (LoRA+)": equivalent(run, 1.0, s),
        "s = 1, shared": equivalent(run, root, root),
        "s = 1, all in A": equivalent(run, s, 1.0),
        "s = √r, the rest in B": equivalent(run, 1.0, s / math.sqrt(rank)),
    }
    rows: list[Equivalent] = []
    for name, settings in found.items():
        if any(_same(settings, row.settings) for row in rows):
            continue
        scaling = settings.scaling
        rows.append(Equivalent(name, settings, scaling * rank, scaling * math.sqrt(rank)))
    return rows


def as_table(rows: Sequence[Equivalent]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells, a column a way; ε only for Adam, λ only where there is decay."""
    run = rows[0].settings
    lines = {
        "s": [row.settings.scaling for row in rows],
        "alpha": [row.alpha for row in rows],
        "alpha, rslora": [row.alpha_rslora for row in rows],
        "A⁰ ×": [row.settings.size_A for row in rows],
        "B⁰ ×": [row.settings.size_B for row in rows],
        "η_A": [row.settings.lr_A for row in rows],
        "η_B": [row.settings.rate_B for row in rows],
        "η_B/η_A": [row.ratio for row in rows],
    }
    if run.size_B == 0:
        del lines["B⁰ ×"]
    if run.optimizer in _ADAPTIVE:
        lines["ε_A"] = [row.settings.eps_A for row in rows]
        lines["ε_B"] = [row.settings.eps_B for row in rows]
    if run.decay_A or run.decay_B:
        lines["λ_A"] = [row.settings.decay_A for row in rows]
        lines["λ_B"] = [row.settings.decay_B for row in rows]
    cells = [[name, *(f"{value:.4g}" for value in values)] for name, values in lines.items()]
    return ["", *(row.name for row in rows)], cells


def notes(rows: Sequence[Equivalent]) -> list[str]:
    """What the rows need to be one run."""
    found = [
        "One run only without clipping by the global gradient norm: max_grad_norm=0 (the Trainer's "
        "default, 1.0, clips each column differently)."
    ]
    if rows[0].settings.optimizer in _ADAPTIVE:
        found.append(
            "Adam's ε moves with the learning rate. Left as it is, they differ where gradients are "
            "not far above it."
        )
    if not all(row.stock for row in rows):
        found.append(
            "A⁰ × and B⁰ ×: multiply the starting factors by this. PEFT has no option for it; "
            "columns with 1 (or a zero B) need alpha and learning rates alone."
        )
    return found


def _same(a: Settings, b: Settings) -> bool:
    """Equal but for rounding in what tells two ways of writing apart."""
    return all(
        math.isclose(x, y, rel_tol=1e-12)
        for x, y in (
            (a.scaling, b.scaling),
            (a.size_A, b.size_A),
            (a.lr_A, b.lr_A),
            (a.rate_B, b.rate_B),
        )
    )
