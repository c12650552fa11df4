"""Proposition 2: how magnitudes grow under gradient descent (arXiv 2507.06558, eq. 3–6).

    >>> start = Start(n=400, m=400, r=25, nu_A=1 / 400, nu_B=0.0)
    >>> magnitudes(start, gradient=1e-4, lr_A=5e-5, lr_B=5e-5, steps=[0, 10, 100])

The proposition's assumption: at every step G = ∂L/∂W has independent zero-mean entries of variance
σ_L², independent of the factors. Then in expectation, exactly,

    ν[A]_{t+1} = ν[A]_t + g_A ν[B]_t,   g_A = s² η_A² n σ_L²
    ν[B]_{t+1} = ν[B]_t + g_B ν[A]_t,   g_B = s² η_B² m σ_L²

and each step adds to ν[W_LoRA] what `slope` says. Training violates the assumption: gradients
persist, so measured growth is faster at first. The prediction is a yardstick, not a forecast.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["Magnitudes", "Shape", "Start", "k1", "linearised", "magnitudes", "slope"]

Shape = Literal["gaussian", "orthonormal"]
"""Independent Gaussian entries, or orthonormal rows of A and columns of B, scaled."""


@dataclass(frozen=True, slots=True)
class Start:
    """A LoRA layer at its start.

    Attributes:
        n: outputs.
        m: inputs.
        r: rank.
        nu_A: ν[A⁰] = σ_A².
        nu_B: ν[B⁰] = σ_B².
        scaling: s.
        shape: of the factors; it decides the finite-size terms.
    """

    n: int
    m: int
    r: int
    nu_A: float
    nu_B: float
    scaling: float = 1.0
    shape: Shape = "gaussian"


class Magnitudes(NamedTuple):
    """Expected ν[A], ν[B] and ν[W_LoRA] after some steps."""

    A: float
    B: float
    update: float


def k1(start: Start) -> float:
    """The paper's growth rate, ν[W_LoRA]_t ≈ k₁ γ t with γ = η²σ_L² (eq. 6): r(m σ_A⁴ + n σ_B⁴).

    For s = 1, equal rates and large widths; full fine-tuning has 1.
    """
    return start.r * (start.m * start.nu_A**2 + start.n * start.nu_B**2)


def slope(
    start: Start, nu_A: float, nu_B: float, *, gradient: float, lr_A: float, lr_B: float
) -> float:
    """Expected ν of the first-order step −s(η_B ∇B A + η_A B ∇A), at factors of these magnitudes.

    ∇B A = s G AᵀA and B ∇A = s BBᵀG, hence

        s⁴σ_L² r [η_B²(m + c)σ_A⁴ + η_A²(n + c)σ_B⁴ + 2r η_A η_B σ_A²σ_B²]

    with c = r + 1 for Gaussian factors (E‖AAᵀ‖² = σ_A⁴ r m(m + r + 1)) and 0 for orthonormal ones.

    Args:
        start: sizes, scaling and shape.
        nu_A: σ_A² now.
        nu_B: σ_B² now.
        gradient: σ_L².
        lr_A: η_A.
        lr_B: η_B.
    """
    n, m, r = start.n, start.m, start.r
    extra = r + 1 if start.shape == "gaussian" else 0
    terms = lr_B**2 * (m + extra) * nu_A**2 + lr_A**2 * (n + extra) * nu_B**2
    cross = 2 * r * lr_A * lr_B * nu_A * nu_B
    return start.scaling**4 * gradient * r * (terms + cross)


def magnitudes(
    start: Start, *, gradient: float, lr_A: float, lr_B: float, steps: Sequence[int]
) -> list[Magnitudes]:
    """Expected magnitudes after each number of steps, by the closed form of the recurrence.

    With ω = √(g_A g_B), p = (1 + ω)ᵗ and q = (1 − ω)ᵗ,

        ν[A]_t = σ_A² (p + q)/2 + σ_B² √(g_A/g_B) (p − q)/2

    and ν[B]_t with the letters exchanged. ν[W_LoRA]_t sums `slope` and the second-order term
    s²r η_A²η_B² ν[∇A]ν[∇B] over the steps, at the magnitudes of each.

    Raises:
        ValueError: a negative number of steps.
    """
    if any(t < 0 for t in steps):
        raise ValueError(f"expected numbers of steps ≥ 0, got {list(steps)}")
    factors = _recurrence(start, gradient, lr_A, lr_B)
    update, reached, found = 0.0, 0, dict[int, Magnitudes]()
    for t in sorted(set(steps)):
        for step in range(reached, t):
            nu_A, nu_B = factors(step)
            update += slope(start, nu_A, nu_B, gradient=gradient, lr_A=lr_A, lr_B=lr_B)
            grad_A = start.scaling**2 * start.n * nu_B * gradient
            grad_B = start.scaling**2 * start.m * nu_A * gradient
            update += start.scaling**2 * start.r * (lr_A * lr_B) ** 2 * grad_A * grad_B
        reached = t
        found[t] = Magnitudes(*factors(t), update)
    return [found[t] for t in steps]


def linearised(
    start: Start, *, gradient: float, lr_A: float, lr_B: float, steps: Sequence[int]
) -> list[Magnitudes]:
    """To first order in t: the lines of the paper's figure 2b (eq. 5 and 6)."""
    s2 = start.scaling**2
    grow_A = s2 * lr_A**2 * start.n * gradient * start.nu_B
    grow_B = s2 * lr_B**2 * start.m * gradient * start.nu_A
    each = slope(start, start.nu_A, start.nu_B, gradient=gradient, lr_A=lr_A, lr_B=lr_B)
    return [Magnitudes(start.nu_A + t * grow_A, start.nu_B + t * grow_B, t * each) for t in steps]


def _recurrence(
    start: Start, gradient: float, lr_A: float, lr_B: float
) -> Callable[[int], tuple[float, float]]:
    """t → (ν[A]_t, ν[B]_t)."""
    g_A = start.scaling**2 * lr_A**2 * start.n * gradient
    g_B = start.scaling**2 * lr_B**2 * start.m * gradient

    def at(t: int) -> tuple[float, float]:
        if g_A == 0 or g_B == 0:  # one factor is frozen: the recurrence is linear
            return start.nu_A + t * g_A * start.nu_B, start.nu_B + t * g_B * start.nu_A
        omega = math.sqrt(g_A * g_B)
        p, q = (1 + omega) ** t, (1 - omega) ** t
        even, odd = (p + q) / 2, (p - q) / 2
        ratio = math.sqrt(g_A / g_B)
        return (
            start.nu_A * even + start.nu_B * odd * ratio,
            start.nu_B * even + start.nu_A * odd / ratio,
        )

    return at
