"""Measured growth of the update against what Adam's learning rates alone predict.

`loram.dynamics.adam` gives ν[W_LoRA] for gradients that keep their sign (p = 1) and for independent
ones (p = 0), from the start's magnitudes and the rates. Real gradients lie between, so the two are
a band; the p at which the prediction equals the measurement is reported too.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from loram.diagnose.log import RunLog, Step
from loram.dynamics.adam import drift, update
from loram.dynamics.growth import Start
from loram.train.settings import TrainSettings

__all__ = ["Grown", "Prediction", "grown", "learning_rates", "persistence_of", "predict"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """ν[W_LoRA] of one layer after a step.

    Attributes:
        measured: as logged.
        walk: predicted for independent gradients, p = 0.
        straight: predicted for gradients that keep their sign, p = 1.
    """

    measured: float
    walk: float
    straight: float


@dataclass(frozen=True, slots=True)
class Grown:
    """All layers after one step; `layers` is empty at the start."""

    step: int
    layers: dict[str, Prediction]

    def median(self) -> Prediction:
        """Medians over layers, each for itself."""
        return Prediction(
            *(
                statistics.median(getattr(layer, name) for layer in self.layers.values())
                for name in ("measured", "walk", "straight")
            )
        )


def learning_rates(settings: TrainSettings) -> list[float]:
    """η of every step of a run, as the Trainer's scheduler gives them."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=settings.lr)
    schedule = get_scheduler(
        settings.schedule,
        optimizer,
        num_warmup_steps=settings.warmup_steps,
        num_training_steps=settings.steps,
    )
    factor = cast(LambdaLR, schedule).lr_lambdas[0]
    return [settings.lr * float(factor(step)) for step in range(settings.steps)]


def predict(start: Start, rates: Sequence[float], *, ratio: float = 1.0) -> tuple[float, float]:
    """ν[W_LoRA] after these rates at p = 0 and p = 1; of `start` only its magnitudes count."""
    walk, straight = (drift(rates, persistence=p) for p in (0.0, 1.0))
    return update(start, walk, ratio=ratio), update(start, straight, ratio=ratio)


def grown(run: RunLog) -> list[Grown]:
    """Every logged step after the start, against the prediction; empty without a step 0.

    Ranks and scaling are those of the settings: an initialisation that redistributes ranks (EVA) is
    predicted at its nominal one.
    """
    if not run.steps or run.steps[0].step != 0:
        return []
    settings = run.settings
    rates = learning_rates(settings)
    starts = _starts(settings, run.steps[0])
    ratio = settings.lr_ratio or settings.row.lr_ratio
    found: list[Grown] = []
    for step in run.steps[1:]:
        past = rates[: step.step]
        layers = {
            name: Prediction(now.update, *predict(starts[name], past, ratio=ratio))
            for name, now in step.layers.items()
            if name in starts
        }
        found.append(Grown(step.step, layers))
    return [each for each in found if each.layers]


def persistence_of(measured: Prediction) -> float | None:
    """p by linear interpolation of ν[W_LoRA] in the band, outside [0, 1] out of it.

    None where nothing could move. D is linear in p and ν[W_LoRA] nearly linear in D.
    """
    width = measured.straight - measured.walk
    if not (width > 0 and math.isfinite(measured.measured)):
        return None
    return (measured.measured - measured.walk) / width


def _starts(settings: TrainSettings, first: Step) -> dict[str, Start]:
    r = settings.rank
    root = settings.rslora or settings.row.rslora
    scaling = settings.lora_alpha / (math.sqrt(r) if root else r)
    # Adam's growth does not depend on the layer's size, which the log does not know.
    return {
        name: Start(n=r, m=r, r=r, nu_A=now.A, nu_B=now.B, scaling=scaling)
        for name, now in first.layers.items()
        if math.isfinite(now.A) and math.isfinite(now.B)
    }
