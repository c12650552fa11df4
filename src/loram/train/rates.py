"""Optimisers of runs whose parts learn at different rates."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from loram.peft.attach import lora_plus
from loram.train.settings import TrainSettings

__all__ = ["optimizer_of"]


def optimizer_of(
    model: Any, settings: TrainSettings, heads: Sequence[str]
) -> torch.optim.Optimizer | None:
    """AdamW with the rates of A, B and a new head; None if all are equal, as the Trainer's own.

    The head's rate is `head_lr`, or `lr` for every method: LoRA+'s ratio is of B alone. As in the
    Trainer's, biases and norms do not decay.

    Args:
        model: ready to train.
        settings: of the run.
        heads: names of the new modules.
    """
    made: torch.optim.Optimizer | None = None
    if settings.row.init is not None:
        made = lora_plus(
            model,
            settings.row,
            lr=settings.lr,
            ratio=settings.lr_ratio,
            weight_decay=settings.weight_decay,
        )
    if made is None and (settings.head_lr is None or not heads):
        return None
    new = {name: p for name, p in model.named_parameters() if p.requires_grad}
    head = {name: p for name, p in new.items() if not {*name.split(".")}.isdisjoint(heads)}
    body = {name: p for name, p in new.items() if name not in head}
    rate = settings.head_lr or settings.lr
    groups = _groups(head, rate, settings.weight_decay)
    if made is None:
        return torch.optim.AdamW(_groups(body, settings.lr, settings.weight_decay) + groups)
    theirs = {id(p) for p in head.values()}
    for group in made.param_groups:
        group["params"] = [p for p in group["params"] if id(p) not in theirs]
    for group in groups:
        made.add_param_group(group)
    return made


def _groups(parameters: dict[str, nn.Parameter], lr: float, decay: float) -> list[dict[str, Any]]:
    matrices = [p for p in parameters.values() if p.ndim > 1]
    vectors = [p for p in parameters.values() if p.ndim <= 1]
    split = ((matrices, decay), (vectors, 0.0))
    return [{"params": ps, "lr": lr, "weight_decay": wd} for ps, wd in split if ps]
