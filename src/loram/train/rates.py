"""The learning rate of every step of a run, as the Trainer's schedule has it."""

import torch
from transformers import get_scheduler

from loram.train.settings import TrainSettings

__all__ = ["learning_rates"]


def learning_rates(settings: TrainSettings) -> list[float]:
    """η_A of steps 1 … `settings.steps`, warm-up and decay included."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=settings.lr)
    schedule = get_scheduler(
        settings.schedule,
        optimizer,
        num_warmup_steps=settings.warmup_steps,
        num_training_steps=settings.steps,
    )
    rates: list[float] = []
    for _ in range(settings.steps):
        rates.append(float(schedule.get_last_lr()[0]))
        optimizer.step()  # a schedule warns if it is stepped before its optimiser
        schedule.step()
    return rates
