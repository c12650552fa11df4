"""The magnitude principle as a rule: the learning rate at which two methods move W equally far.

    >>> matched_rate(loram_layers, lora_layers, 2e-4, steps=500)

If the update's magnitude is what decides (arXiv 2507.06558), a rate that works for one method
carries over to another as the rate of equal predicted ν[W_LoRA]. The prediction is that of
`loram.dynamics.growth` for SGD and of `loram.dynamics.adam` for Adam.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

from loram.dynamics import adam, growth
from loram.dynamics.growth import Start

__all__ = ["Rule", "matched_rate"]

Rule = Literal["sgd", "adam"]


def matched_rate(
    method: Sequence[Start],
    reference: Sequence[Start] | None,
    rate: float,
    *,
    optimizer: Rule = "adam",
    steps: int = 1,
    persistence: float = 1.0,
    ratio: float = 1.0,
    reference_ratio: float = 1.0,
) -> float:
    """The learning rate at which a method's predicted update is as large as a reference's.

    As large in the geometric mean over layers, at the end of a schedule of constant rates; a
    schedule of another shape changes both alike.

    Args:
        method: its layers at the start.
        reference: the reference's, in the same order; None for full fine-tuning.
        rate: the reference's learning rate, η_A.
        optimizer: SGD (momentum changes both alike) or Adam (AdamW).
        steps: length of the run. Matters under Adam, where the update is not a power of η alone.
        persistence: of gradients, as in `adam.drift`.
        ratio: η_B/η_A of the method.
        reference_ratio: η_B/η_A of the reference.

    Returns:
        η_A of the method.

    Raises:
        ValueError: no layers, layers that do not pair up, or a method that can't move.
    """
    if not method or (reference is not None and len(reference) != len(method)):
        raise ValueError(
            f"expected the layers of both methods, got {len(method)} and "
            f"{'full fine-tuning' if reference is None else len(reference)}"
        )
    log_update = _sgd if optimizer == "sgd" else _adam
    shape = adam.drift([1.0] * steps, persistence=persistence)

    def mean(layers: Sequence[Start] | None, eta: float, rho: float) -> float:
        if layers is None:
            return log_update(None, eta, rho, shape)
        return math.fsum(log_update(layer, eta, rho, shape) for layer in layers) / len(layers)

    target = mean(reference, rate, reference_ratio)
    return _solve(lambda eta: mean(method, eta, ratio) - target, rate)


def _sgd(start: Start | None, eta: float, rho: float, shape: float) -> float:
    """log ν of an update per unit of σ_L², to first order."""
    if start is None:
        return math.log(eta**2)
    slope = growth.slope(start, start.nu_A, start.nu_B, gradient=1.0, lr_A=eta, lr_B=rho * eta)
    return _log(slope)


def _adam(start: Start | None, eta: float, rho: float, shape: float) -> float:
    moved = shape * eta**2
    return math.log(moved) if start is None else _log(adam.update(start, moved, ratio=rho))


def _log(value: float) -> float:
    if not value > 0:
        raise ValueError("a layer whose factors are both zero never moves: it has no rate")
    return math.log(value)


def _solve(excess: Callable[[float], float], guess: float) -> float:
    """The zero of an increasing function of log η, by bisection, to 12 digits."""
    low, high = math.log(guess) - 30, math.log(guess) + 30
    for _ in range(120):
        middle = (low + high) / 2
        if excess(math.exp(middle)) < 0:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)
