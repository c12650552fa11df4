"""What one run of a study leaves for the statistics."""

from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

__all__ = ["Judged", "Record", "Status"]

Status = Literal["done", "diverged", "failed"]
"""`diverged` is a result, the worst there is; `failed` is an error and says nothing of a method."""


class Judged(NamedTuple):
    """One validation while training: steps done, seconds of training so far, metrics."""

    step: int
    seconds: float
    metrics: dict[str, float]


class Record(BaseModel):
    """One run, flat.

    Attributes:
        key: content address of the run: hash of its resolved settings and of versions.
        model: as the settings name it.
        task: likewise.
        method: likewise.
        rank: r.
        lr: η_A.
        seed: of data order, head and random factors; equal seeds are paired.
        status: whether it came to its end.
        metric: the task's main metric, which is tuned on.
        better: whether more or less of it is better.
        validation: metrics that are tuned on, after training; empty unless done.
        test: metrics that are reported; empty unless done.
        curve: validations while training, if any were asked for.
        losses: training loss of each step.
        update: geometric mean over layers of ν[W_LoRA] after training; None for full fine-tuning.
        init_seconds: of the adapter's start, calibration included.
        train_seconds: of all optimiser steps.
        wall_seconds: of the whole run, loading and judging included; of its last part, if it was
            resumed.
        calibration_tokens: read by a data-driven start.
        peak_memory_bytes: of the process, or of the GPU.
        trainable: parameters.
        error: message of a run that is not done.
        settings: all of them.
        versions: of what decides a number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    model: str
    task: str
    method: str
    rank: int
    lr: float
    seed: int
    status: Status
    metric: str
    better: Literal["high", "low"]
    validation: dict[str, float] = {}
    test: dict[str, float] = {}
    curve: tuple[Judged, ...] = ()
    losses: tuple[float, ...] = ()
    update: float | None = None
    init_seconds: float | None = None
    train_seconds: float | None = None
    wall_seconds: float | None = None
    calibration_tokens: int | None = None
    peak_memory_bytes: int | None = None
    trainable: int | None = None
    error: str | None = None
    settings: dict[str, Any]
    versions: dict[str, str] = {}

    @property
    def curve_metric(self) -> tuple[str, Literal["high", "low"]]:
        """What its curve is of, and the better direction: the main metric, or the loss.

        Answers and programs are too dear to be written and judged while training.
        """
        own = any(self.metric in judged.metrics for judged in self.curve)
        return (self.metric, self.better) if own or not self.curve else ("loss", "low")
