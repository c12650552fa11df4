"""Proposition 1 for a user's own numbers: every usual way to write the same run.

>>> equivalents(Settings(scaling=2.0, lr_A=1e-4), rank=16)
"""

import math
from dataclasses import dataclass

from loram.dynamics.equivalence import Settings, equivalent

__all__ = ["Equivalent", "equivalents"]


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
    that would repeat an earlier one is left out, as is most of them where s is 1 already.

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
        "s = 1, all of s in B (LoRA+)": equivalent(run, 1.0, s),
        "s = 1, shared": equivalent(run, root, root),
        "s = 1, all of s in A": equivalent(run, s, 1.0),
        "s = √r (rsLoRA), the rest in B": equivalent(run, 1.0, s / math.sqrt(rank)),
    }
    rows: list[Equivalent] = []
    for name, settings in found.items():
        if any(_same(settings, row.settings) for row in rows):
            continue
        scaling = settings.scaling
        rows.append(Equivalent(name, settings, scaling * rank, scaling * math.sqrt(rank)))
    return rows


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
