"""What trains when, and which prompts it sees: stages, and the curriculum of LLaRA and iLoRA."""

import random
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Part", "Prompts", "Stage", "is_hybrid", "order"]

Part = Literal["adapter", "projector", "router", "encoder"]
Prompts = Literal["text", "hybrid", "curriculum"]


class Stage(BaseModel):
    """One part of the training, with an optimiser of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trains: tuple[Part, ...] = Field(("adapter",), min_length=1, description="what is not frozen")
    prompts: Prompts = Field("text", description="text alone, with slots, or from one to the other")
    epochs: int = Field(1, ge=1, description="passes over the shots")
    max_steps: int | None = Field(None, ge=1, description="optimiser steps at most")
    lr: float | None = Field(None, gt=0, description="by default the run's")
    patience: int | None = Field(
        None, ge=1, description="judgements without a better one; then it ends"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> "Stage":
        if self.prompts == "text" and {"projector", "encoder"} & set(self.trains):
            raise ValueError(
                "projector and encoder get no gradient from text prompts: expected prompts hybrid "
                "or curriculum"
            )
        return self

    def steps(self, examples: int, per_step: int) -> int:
        """Optimiser steps of the stage."""
        whole = self.epochs * -(-examples // per_step)
        return whole if self.max_steps is None else min(whole, self.max_steps)


def is_hybrid(prompts: Prompts, step: int, total: int, *, seed: int) -> bool:
    """Whether the batch of a step has prompts with slots.

    The curriculum draws so with probability τ/T, one draw a batch (LLaRA, arXiv 2312.02445). A
    step's draw depends on nothing but the seed and the step: a resumed run draws the same.

    Args:
        prompts: of the stage.
        step: τ, from 0.
        total: T, steps of the stage.
        seed: of the run.
    """
    if prompts != "curriculum":
        return prompts == "hybrid"
    return random.Random(f"curriculum {seed} {step}").random() < step / total


def order(examples: int, epoch: int, *, seed: int) -> Sequence[int]:
    """Order of the examples in an epoch, which depends on the seed and the epoch alone."""
    indices = list(range(examples))
    random.Random(f"order {seed} {epoch}").shuffle(indices)
    return indices
