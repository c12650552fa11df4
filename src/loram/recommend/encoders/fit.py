"""One trainer for every classical model: Adam, early stopping, the best state kept."""

import copy
import logging
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from loram.recommend.encoders.seeding import seeded
from loram.recommend.errors import RecommendError

__all__ = ["Batch", "Curve", "FitSettings", "Trainable", "fit"]

_log = logging.getLogger(__name__)
Batch = Mapping[str, Tensor]
"""Tensors whose first dimension is the rows."""


class FitSettings(BaseModel):
    """How to train.

    Attributes:
        epochs: at most.
        batch: rows of a step.
        lr: Adam's.
        weight_decay: L2, in the gradient.
        patience: epochs without a better validation before it stops.
        seed: of order, dropout and noise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=20, ge=1)
    batch: int = Field(default=1024, ge=1)
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    patience: int = Field(default=2, ge=1)
    seed: int = 0


class Trainable(Protocol):
    """A module that knows its loss."""

    def loss(self, batch: Batch) -> Tensor:
        """Scalar loss of some rows."""
        ...


class Curve(NamedTuple):
    """What validation said after each epoch, and which epoch was kept (from 0)."""

    values: tuple[float, ...]
    best: int


def fit(
    model: torch.nn.Module,
    rows: Batch,
    validate: Callable[[], float],
    settings: FitSettings,
) -> Curve:
    """Train, and leave the model in eval mode with its best validated state.

    Deterministic on one CPU thread: equal seeds give equal numbers, and the global generator is as
    before.

    Args:
        model: with a `loss` of some rows.
        rows: all rows to learn from.
        validate: a number that grows as the model gets better; the model is in eval mode.
        settings: epochs and the rest.

    Raises:
        RecommendError: no rows, rows of unequal number, a loss that is not finite, or a validation
            that is NaN.
    """
    counts = {name: len(values) for name, values in rows.items()}
    if len(set(counts.values())) != 1 or not min(counts.values()):
        raise RecommendError(f"expected rows to train on, equally many of each, got {counts}")
    n = next(iter(counts.values()))
    optimizer = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad],
        lr=settings.lr,
        weight_decay=settings.weight_decay,
    )
    best, state, values = 0, copy.deepcopy(model.state_dict()), list[float]()
    with seeded(settings.seed):
        for epoch in range(settings.epochs):
            model.train()
            for chosen in torch.randperm(n).split(settings.batch):
                if len(chosen) == 1 < n:
                    continue  # batch normalisation has no variance of one row
                optimizer.zero_grad()
                loss = model.loss({name: v[chosen] for name, v in rows.items()})  # pyright: ignore[reportCallIssue]
                loss.backward()
                optimizer.step()
                if not math.isfinite(loss.item()):
                    raise RecommendError(
                        f"the loss is {loss.item()} in epoch {epoch + 1}: lower the learning rate "
                        f"(now {settings.lr:g})"
                    )
            model.eval()
            with torch.no_grad():
                values.append(validate())
            if math.isnan(values[-1]):
                raise RecommendError(
                    "validation gives no number to choose an epoch by: expected validation rows of "
                    "both labels"
                )
            _log.info("epoch %d: validation %.4f", epoch + 1, values[-1])
            if epoch == 0 or values[-1] > values[best]:
                best, state = epoch, copy.deepcopy(model.state_dict())
            if epoch - best >= settings.patience:
                break
    model.load_state_dict(state)
    model.eval()
    return Curve(tuple(values), best)
