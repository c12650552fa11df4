"""What a run trains: a model with an adapter on it, or, for full fine-tuning, the model itself."""

import filecmp
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import TrainerCallback

from loram.files import staged_folder
from loram.peft.attach import attach, is_loram, restore, save_as_lora
from loram.peft.calibration import Calibration
from loram.probe import MagnitudeLog, MagnitudeProbe
from loram.train.errors import RunError
from loram.train.job import Job
from loram.train.rates import optimizer_of
from loram.train.settings import TrainSettings

__all__ = ["StartError", "Subject", "begin"]

_WEIGHTS = "adapter_model.safetensors"


class StartError(RunError):
    """A run can't go on, because its starting point does not come out again."""


class Subject(Protocol):
    """A model that is ready to train.

    Attributes:
        model: what the Trainer trains.
        used: of the calibration stream; None for a method that needs no data.
        callbacks: of the Trainer.
        optimizer: the method's own, or None for the Trainer's.
        autocast: train in bfloat16 over float32 weights.
        saved: name of what `save` writes in the run's folder.
    """

    model: Any
    used: Calibration | None
    callbacks: list[TrainerCallback]
    optimizer: torch.optim.Optimizer | None
    autocast: bool
    saved: str

    def save(self, out: Path, tokenizer: Any) -> int:
        """Write what was trained into `out / saved`; its weights' size in bytes."""
        ...

    def restore(self, checkpoint: str) -> None:
        """Write a checkpoint of the Trainer into the model."""
        ...

    def update(self) -> float | None:
        """Geometric mean over layers of ν[W_LoRA] now; None if there is no adapter."""
        ...


def begin(
    job: Job, settings: TrainSettings, calibration: Iterable[Mapping[str, Tensor]], out: Path
) -> Subject:
    """Start the method of a run on a pretrained model, in place.

    Args:
        job: with the model, on its device.
        settings: of the run.
        calibration: batches; read only by a method that starts from data.
        out: the run's folder, for what is to be known when the run is resumed.

    Raises:
        LoramError: the method can't go on this model.
        StartError: the run was begun from a starting point that does not come out again.
    """
    if settings.row.init is None:
        return _Full(job, settings)
    return _Adapter(job, settings, calibration, out)


class _Adapter:
    """A low-rank adapter, by a row of the methods table."""

    autocast = False
    saved = "adapter"

    def __init__(
        self,
        job: Job,
        settings: TrainSettings,
        calibration: Iterable[Mapping[str, Tensor]],
        out: Path,
    ) -> None:
        method = settings.row
        self.model, self.used = attach(
            job.model,
            method,
            rank=settings.rank,
            alpha=settings.lora_alpha,
            rslora=settings.rslora,
            dropout=settings.dropout,
            target_modules=settings.target_modules,
            calibration=calibration,
            task_type=job.task_type,
            heads=job.heads,
            within=job.within,
        )
        # PEFT's own rewriting methods: what was taken out of the base is needed at the end, and
        # must be the same when the run is resumed.
        rewrites = method.base == "rewritten" and not is_loram(method)
        rewrites = rewrites and (settings.keep != "nothing" or settings.save_every > 0)
        self._start = self._keep_start(out / "start") if rewrites else None
        self._probe = MagnitudeProbe(self.model)
        every = settings.magnitudes_every or settings.steps
        self.callbacks: list[TrainerCallback] = [
            MagnitudeLog(self._probe, out / "magnitudes.jsonl", every=every)
        ]
        self.optimizer = optimizer_of(self.model, settings, job.heads)

    def _keep_start(self, folder: Path) -> Path:
        """Save the untrained adapter, or check that a resumed run starts where it did."""
        with staged_folder(folder) as staging:
            self.model.save_pretrained(str(staging))
            if folder.exists() and not filecmp.cmp(
                staging / _WEIGHTS, folder / _WEIGHTS, shallow=False
            ):
                raise StartError(
                    f"{folder.parent} was begun from other starting factors than come out now, "
                    "with another version of a library or on another machine: the base would not "
                    "be the one it was trained on. Begin again in a new folder"
                )
        return folder

    def save(self, out: Path, tokenizer: Any) -> int:
        """The adapter, such that PEFT reloads it on the pretrained base."""
        save_as_lora(self.model, out / self.saved, self._start)
        return (out / self.saved / _WEIGHTS).stat().st_size

    def restore(self, checkpoint: str) -> None:
        """Write a checkpoint's factors into the adapter."""
        restore(self.model, checkpoint)

    def update(self) -> float | None:
        """Geometric mean over layers of ν[W_LoRA]: 0 if one has not moved."""
        values = [layer.update for layer in self._probe.read().values()]
        return statistics.geometric_mean(values) if all(values) else 0.0


class _Full:
    """All weights, kept in float32 whatever the base's dtype: bfloat16 would swallow the steps."""

    saved = "model"

    def __init__(self, job: Job, settings: TrainSettings) -> None:
        self.autocast = job.model.dtype == torch.bfloat16
        self.model = job.model.float().requires_grad_(job.within is None)
        if job.within is not None:
            _train_within(self.model, job.within, job.heads)
        self.used: Calibration | None = None
        self.callbacks: list[TrainerCallback] = []
        self.optimizer = optimizer_of(self.model, settings, job.heads)

    def save(self, out: Path, tokenizer: Any) -> int:
        """The whole model with its tokenizer."""
        folder = out / self.saved
        self.model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return sum(file.stat().st_size for file in folder.glob("*.safetensors"))

    def restore(self, checkpoint: str) -> None:
        """Write a checkpoint's weights into the model."""
        read = type(self.model).from_pretrained(checkpoint, dtype=torch.float32)
        self.model.load_state_dict(read.state_dict())

    def update(self) -> float | None:
        """There is no adapter."""
        return None


def _train_within(model: Any, within: str, heads: Sequence[str]) -> None:
    """All weights of a language model in a larger one, of its output, and of the heads."""
    model.get_submodule(within).requires_grad_(True)
    model.get_output_embeddings().requires_grad_(True)
    for name, module in model.named_modules():
        if name.rsplit(".", 1)[-1] in heads:
            module.requires_grad_(True)
