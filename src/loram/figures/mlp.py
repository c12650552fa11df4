"""The paper's testbed for the magnitude principle: a deep ReLU network on synthetic regression.

Its weights are frozen and drawn once. The targets come from a teacher beside it,

    y = f(x; W + δ E) + noise,   x and noise standard normal, E with the entries' size of W

so that δ says how much signal there is: with δ = 0 gradients are independent from step to step and
have mean zero, which Proposition 2 assumes; with δ > 0 they persist.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from loram.dynamics import Settings
from loram.magnitude import nu, nu_update

__all__ = ["Factors", "Gradients", "Network", "gaussian_factors", "train_factors", "train_weights"]

Factors = Sequence[tuple[Tensor, Tensor]]
"""(B (width, r), A (r, width)) of every layer."""


class Gradients(NamedTuple):
    """Of one layer at the start.

    Attributes:
        nu: σ_L², the mean square of G = ∂L/∂W on one batch.
        persistence: p, the mean inner product of two batches' G over the mean ‖G‖².
    """

    nu: float
    persistence: float


@dataclass(frozen=True)
class Network:
    """The frozen network, its teacher, and the stream of batches.

    Attributes:
        depth: layers.
        width: of each.
        batch: examples a step, new ones every step.
        signal: δ.
        noise: size of the targets' noise.
        seed: of everything that is drawn.
        weights: W (width, width) of every layer, float64.
        teacher: the teacher's.
    """

    depth: int = 5
    width: int = 400
    batch: int = 32
    signal: float = 0.5
    noise: float = 1.0
    seed: int = 0
    weights: list[Tensor] = field(init=False)
    teacher: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        size = math.sqrt(2 / self.width)  # keeps the activations' size through the ReLUs
        drawn = [
            size * _normal(self.width, self.width, generator=generator)
            for _ in range(2 * self.depth)
        ]
        object.__setattr__(self, "weights", drawn[: self.depth])
        pairs = zip(drawn[: self.depth], drawn[self.depth :], strict=True)
        object.__setattr__(self, "teacher", [W + self.signal * E for W, E in pairs])

    def batches(self, count: int, *, stream: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets (batch, width), the same ones every time for one stream."""
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + stream)
        for _ in range(count):
            x = _normal(self.batch, self.width, generator=generator)
            clean = x
            for i, W in enumerate(self.teacher):
                clean = clean @ W.T if i == 0 else clean.relu() @ W.T
            yield x, clean + self.noise * _normal(self.batch, self.width, generator=generator)

    def gradients(self, count: int = 64) -> list[Gradients]:
        """What Proposition 2 needs of every layer, measured on batches of a stream of their own."""
        weights = [W.clone().requires_grad_() for W in self.weights]
        total = [torch.zeros_like(W) for W in weights]
        squares = [0.0] * self.depth
        for x, y in self.batches(count, stream=2):
            found = torch.autograd.grad(_loss(x, y, weights), weights)
            for i, G in enumerate(found):
                total[i] += G
                squares[i] += float(G.square().sum())
        return [
            Gradients(
                nu=square / count / self.width**2,
                persistence=(float(G.square().sum()) - square) / (count - 1) / square,
            )
            for G, square in zip(total, squares, strict=True)
        ]


def gaussian_factors(
    network: Network, r: int, nu_A: float, nu_B: float, *, seed: int = 0
) -> list[tuple[Tensor, Tensor]]:
    """Independent Gaussian factors (B, A) for every layer, of these magnitudes, float64."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            math.sqrt(nu_B) * _normal(network.width, r, generator=generator),
            math.sqrt(nu_A) * _normal(r, network.width, generator=generator),
        )
        for _ in range(network.depth)
    ]


def train_factors(
    network: Network, start: Factors, settings: Settings, steps: Sequence[int]
) -> dict[int, list[float]]:
    """ν[W_LoRA] of every layer after each of the steps, training the factors alone.

    Args:
        network: frozen.
        start: factors of size 1; `settings` scales them.
        settings: scaling, sizes, learning rates and optimiser, as Proposition 1 takes them.
        steps: at which to measure; the last is the length of the run.
    """
    s = settings.scaling
    first = [(settings.size_B * B, settings.size_A * A) for B, A in start]
    now = [(B.clone().requires_grad_(), A.clone().requires_grad_()) for B, A in first]
    # W − sB⁰A⁰ once: the step then needs no n × m product but the frozen layer's own.
    frozen = [W - s * B @ A for W, (B, A) in zip(network.weights, first, strict=True)]
    optimizer = _optimizer([A for _, A in now], [B for B, _ in now], settings)
    found: dict[int, list[float]] = {}
    for step, (x, y) in enumerate(_and_none(network.batches(max(steps)))):
        if step in steps:
            pairs = zip(now, first, strict=True)
            found[step] = [nu_update(B, A, B0, A0, s) for (B, A), (B0, A0) in pairs]
        if x is not None and y is not None:
            optimizer.zero_grad()
            _loss(x, y, frozen, now, s).backward()
            optimizer.step()
    return found


def train_weights(
    network: Network, settings: Settings, steps: Sequence[int]
) -> dict[int, list[float]]:
    """ν[ΔW] of every layer after each of the steps, training the weights at the rate η_A."""
    weights = [W.clone().requires_grad_() for W in network.weights]
    optimizer = _optimizer(weights, [], settings)
    found: dict[int, list[float]] = {}
    for step, (x, y) in enumerate(_and_none(network.batches(max(steps)))):
        if step in steps:
            pairs = zip(weights, network.weights, strict=True)
            found[step] = [nu(W.detach() - W0) for W, W0 in pairs]
        if x is not None and y is not None:
            optimizer.zero_grad()
            _loss(x, y, weights).backward()
            optimizer.step()
    return found


def _loss(
    x: Tensor,
    y: Tensor,
    weights: Sequence[Tensor],
    factors: Factors | None = None,
    s: float = 1.0,
) -> Tensor:
    """Mean squared error, over outputs and batch."""
    for i, W in enumerate(weights):
        x = x if i == 0 else x.relu()
        out = x @ W.T
        if factors is not None:
            B, A = factors[i]
            out = out + s * (x @ A.T) @ B.T
        x = out
    return (x - y).square().mean()


def _optimizer(A: list[Tensor], B: list[Tensor], settings: Settings) -> torch.optim.Optimizer:
    sides = ((A, settings.lr_A, settings.eps_A, settings.decay_A),)
    if B:
        sides += ((B, settings.rate_B, settings.eps_B, settings.decay_B),)
    groups = [
        {"params": params, "lr": lr, "weight_decay": decay, "eps": eps}
        for params, lr, eps, decay in sides
    ]
    adaptive = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    if settings.optimizer in adaptive:
        return adaptive[settings.optimizer](groups)
    momentum = 0.9 if settings.optimizer == "momentum" else 0.0
    return torch.optim.SGD(groups, momentum=momentum)


def _and_none(
    batches: Iterable[tuple[Tensor, Tensor]],
) -> Iterator[tuple[Tensor, Tensor] | tuple[None, None]]:
    """The batches, then once more without one: what is after the last step is measured too."""
    yield from batches
    yield None, None


def _normal(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)
