"""Proposition 1: settings that look different and are the same run (arXiv 2507.06558, §2.2).

    >>> equivalent(Settings(scaling=2.0, lr_A=1e-4), split_A=1.0, split_B=2.0)

The scaling, the size of the initial factors and the learning rates act on W_LoRA through their
products only. With s = s′ α_A α_B, the run (s, A, B) is the run (s′, α_A A, α_B B) at other rates:

    SGD, momentum   η′ = α² η                     coupled decay     λ′ = λ/α²
    Adam, AdamW     η′ = α η,   ε′ = ε/α          decoupled decay   λ′ = λ/α

for each factor with its own α. Exact in real arithmetic, and only without clipping by the global
gradient norm, which sees ‖∇A‖ and ‖∇B‖ change by 1/α.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["Optimizer", "Settings", "equivalent"]

Optimizer = Literal["sgd", "momentum", "adam", "adamw"]
"""`adam` couples weight decay to the gradient, as SGD does; `adamw` does not."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What Proposition 1 says is not independent.

    Attributes:
        scaling: s.
        size_A: the initial A is this times some fixed matrix.
        size_B: the initial B likewise; 0 for a zero B.
        lr_A: η_A.
        lr_B: η_B; by default η_A.
        optimizer: of both factors.
        eps_A: Adam's ε for A.
        eps_B: Adam's ε for B.
        decay_A: weight decay λ of A.
        decay_B: weight decay λ of B.
    """

    scaling: float = 1.0
    size_A: float = 1.0
    size_B: float = 1.0
    lr_A: float = 1e-4
    lr_B: float | None = None
    optimizer: Optimizer = "adamw"
    eps_A: float = 1e-8
    eps_B: float = 1e-8
    decay_A: float = 0.0
    decay_B: float = 0.0

    def __post_init__(self) -> None:
        if self.optimizer not in get_args(Optimizer):
            raise ValueError(
                f"unknown optimizer {self.optimizer!r}: expected {', '.join(get_args(Optimizer))}"
            )
        if not all(0 < value < math.inf for value in (self.scaling, self.lr_A, self.rate_B)):
            raise ValueError(
                f"expected a finite scaling and finite learning rates > 0, got s = {self.scaling}, "
                f"η_A = {self.lr_A}, η_B = {self.lr_B}"
            )
        at_least_0 = (self.size_A, self.size_B, self.eps_A, self.eps_B, self.decay_A, self.decay_B)
        if not all(0 <= value < math.inf for value in at_least_0):
            raise ValueError(
                "expected sizes, ε and weight decay finite and ≥ 0, got sizes "
                f"{self.size_A}, {self.size_B}, ε {self.eps_A}, {self.eps_B}, "
                f"λ {self.decay_A}, {self.decay_B}"
            )

    @property
    def rate_B(self) -> float:
        """η_B, with its default."""
        return self.lr_A if self.lr_B is None else self.lr_B


def equivalent(run: Settings, split_A: float, split_B: float) -> Settings:
    """The same run at the scaling s′ = s/(α_A α_B).

    Args:
        run: its settings.
        split_A: α_A > 0, the part of the scaling that moves into A.
        split_B: α_B > 0, the part that moves into B.

    Returns:
        Settings with the same trajectory of W_LoRA = s(BA − B⁰A⁰).

    Raises:
        ValueError: a part that is not positive.
    """
    if not (split_A > 0 and split_B > 0):
        raise ValueError(f"expected α_A, α_B > 0, got {split_A} and {split_B}")
    adaptive = run.optimizer in ("adam", "adamw")
    rate, decay = (1 if adaptive else 2), (1 if run.optimizer == "adamw" else 2)
    return Settings(
        scaling=run.scaling / (split_A * split_B),
        size_A=run.size_A * split_A,
        size_B=run.size_B * split_B,
        lr_A=run.lr_A * split_A**rate,
        lr_B=run.rate_B * split_B**rate,
        optimizer=run.optimizer,
        eps_A=run.eps_A / split_A if adaptive else run.eps_A,
        eps_B=run.eps_B / split_B if adaptive else run.eps_B,
        decay_A=run.decay_A / split_A**decay,
        decay_B=run.decay_B / split_B**decay,
    )
