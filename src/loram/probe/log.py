"""`MagnitudeLog`: a Trainer callback that writes what a probe reads, step by step."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback

from loram.files import write_text
from loram.probe.adapter import MagnitudeProbe
from loram.probe.full import WeightProbe
from loram.probe.reading import LayerStep, summary

__all__ = ["MagnitudeLog"]


class MagnitudeLog(TrainerCallback):
    """One JSON line a step, `{"step": k, "layers": {name: [ν[A], ν[B], ν[W_LoRA], …]}}`.

    The values of a layer are those of `LayerStep`, in its order; null is what can't be said. Step 0
    is the start; its line also has their names ("fields") and ν[W] ("weights"). ν[ΔW_t] is of the
    step whose line it is, whatever `every` is; gradients are those that the optimiser was given.

    When a run is resumed, lines past the checkpoint are dropped, so the file reads as if the run
    had never stopped. Of several processes the first writes.

    Args:
        model: with its adapter at the start of training; or a probe, such as `WeightProbe(model)`
            for full fine-tuning.
        path: JSONL file; its folder is made.
        adapter: its name; the active one by default. Not with a probe.
        every: steps between lines.
        report: told `summary` of every line but the first: `trainer.log` brings it to whatever
            `report_to` names.

    Raises:
        ValueError: `every` is not positive, an adapter is named beside a probe, or the model has
            no LoRA layer of that adapter.
    """

    def __init__(
        self,
        model: nn.Module | MagnitudeProbe | WeightProbe,
        path: str | os.PathLike[str],
        *,
        adapter: str | None = None,
        every: int = 1,
        report: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"expected a line every 1 step or more, got every={every}")
        if isinstance(model, nn.Module):
            model = MagnitudeProbe(model, adapter)
        elif adapter is not None:
            raise ValueError(f"the probe has its adapter: leave out adapter={adapter!r}")
        self._probe = model
        self._path = Path(path)
        self._every = every
        self._report = report

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the start, or cut the file back to the checkpoint."""
        first = state.global_step == 0
        if _writes(state):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            there = self._path.exists() and not first
            lines = self._path.read_text().splitlines() if there else []
            kept = [line for line in lines if _step(line) <= state.global_step]
            write_text(self._path, "".join(line + "\n" for line in kept))
        if first:
            layers = self._probe.step()
            about = {"fields": [*LayerStep._fields], "weights": self._probe.weights}
            self._write(state, layers, about)
        else:
            self._probe.mark()

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remember where a step begins that gets a line, unless the line before says so."""
        if self._every > 1 and self._due(state.global_step + 1):
            self._probe.mark()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the gradients while they are there."""
        if self._due(state.global_step + 1):
            self._probe.note_gradients()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the line of this step."""
        if self._due(state.global_step):
            layers = self._probe.step()
            self._write(state, layers, {})
            if self._report is not None:
                self._report(summary(layers, self._probe.weights))

    def _due(self, step: int) -> bool:
        return step % self._every == 0

    def _write(self, state: Any, layers: dict[str, LayerStep], about: dict[str, Any]) -> None:
        if not _writes(state):
            return
        with self._path.open("a") as file:
            file.write(json.dumps({"step": state.global_step, **about, "layers": layers}) + "\n")


def _writes(state: Any) -> bool:
    """Whether this process is the first of those that train."""
    return getattr(state, "is_world_process_zero", True)


def _step(line: str) -> float:
    """Step of a line; infinity for one that a killed process left half written."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
