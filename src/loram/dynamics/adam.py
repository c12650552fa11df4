"""Growth under Adam: this project's extension of Proposition 2, which is about SGD.

    >>> update(start, drift(lr=[2e-4] * 60))

Adam divides each entry of the gradient by its own size, so how far a factor moves does not depend
on the loss, the layer or the factor: ν[dA] = ν[dB] = D(t), fixed by the learning rates and by how
long gradients keep their sign.

    persistent gradients      D = (Σ η_t)²        every entry walks straight on
    independent gradients     D = Σ η_t²          every entry is a random walk

The second is exact in the long run: the weights of Adam's moving average sum to 1, so that sums of
its steps are sums of normalised gradients. (A single step is smaller, ν = η²(1−β₁)/(1+β₁); only the
first is η² in both cases.) What lies between is one number, the persistence p in [0, 1]:
D = p (Σ η_t)² + (1 − p) Σ η_t².

Then W_LoRA = s(B⁰dA + dB A⁰ + dB dA). With independent directions

    ν[W_LoRA] = s² r [σ_B² D + σ_A² D + D²]

of which the first two terms are exact for orthonormal B⁰, A⁰ but for their cross term. It breaks
where D is no longer the same for all entries: gradients below ε, clipping by the global norm,
decay, and the end of training, where gradients change sign at every step.

`docs/magnitude.md` has the derivation and the measurement.
"""

import math
from collections.abc import Sequence

from loram.dynamics.growth import Start

__all__ = ["drift", "rate_for", "update"]


def drift(lr: Sequence[float], *, persistence: float = 1.0) -> float:
    """D = ν[dA] = ν[dB] after these learning rates, one a step.

    Args:
        lr: of every step, warm-up and decay included.
        persistence: p, 1 for gradients that keep their sign, 0 for independent ones.

    Raises:
        ValueError: p outside [0, 1].
    """
    if not 0 <= persistence <= 1:
        raise ValueError(f"expected a persistence in [0, 1], got {persistence}")
    walk = math.fsum(rate**2 for rate in lr)
    return persistence * math.fsum(lr) ** 2 + (1 - persistence) * walk


def update(start: Start, moved: float, *, ratio: float = 1.0) -> float:
    """ν[W_LoRA] after a drift of D: s² r [σ_B² D + σ_A² ρ²D + ρ²D²].

    Args:
        start: the layer.
        moved: D, of A.
        ratio: ρ = η_B/η_A (LoRA+).
    """
    moved_B = ratio**2 * moved
    first = start.nu_B * moved + start.nu_A * moved_B
    return start.scaling**2 * start.r * (first + moved * moved_B)


def rate_for(start: Start, target: float, *, shape: float, ratio: float = 1.0) -> float:
    """The learning rate at which `update` is `target`: the positive root of a quadratic in η².

    Args:
        start: the layer.
        target: ν[W_LoRA] to reach, > 0.
        shape: D/η² of the schedule, `drift` at a peak rate of 1.
        ratio: ρ = η_B/η_A.

    Raises:
        ValueError: nothing to reach, or a schedule that does not move.
    """
    if not (target > 0 and shape > 0):
        raise ValueError(f"expected target and shape > 0, got {target} and {shape}")
    scale = start.scaling**2 * start.r
    a, b = ratio**2, start.nu_B + ratio**2 * start.nu_A
    # a D² + b D = target/scale, in the form that does not cancel.
    c = target / scale
    moved = 2 * c / (b + math.sqrt(b * b + 4 * a * c))
    return math.sqrt(moved / shape)
