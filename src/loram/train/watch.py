"""What is looked at while a run trains: times, tokens, divergence, and the validation curve."""

import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from loram.files import write_text
from loram.train.errors import DivergedError
from loram.train.folder import WHOLE, read_json

__all__ = ["Curve", "Watch", "check_finite", "median"]


def check_finite(what: str, values: dict[str, float], step: int, lr: float) -> None:
    """Nothing, if all values are finite.

    Raises:
        DivergedError: one is not.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise DivergedError(
                f"training diverged: the {what}{name.replace('_', ' ')} is {value} at step {step}, "
                f"at lr {lr:g}. Use a lower learning rate, in a new folder",
                step,
            )


class Watch(TrainerCallback):
    """Times and tokens of the steps, the progress bar, whole checkpoints, and divergence.

    To be the first of a Trainer's callbacks, so that what the others do is not of the step.

    Args:
        tick: told of every step.
        lr: for messages.

    Attributes:
        seconds: of every step; those before a checkpoint are read from it.
        rates: tokens a second, of the steps of this process.
    """

    def __init__(self, tick: Callable[[int], None], lr: float) -> None:
        self._tick, self._lr = tick, lr
        self._began, self._tokens = 0.0, 0
        self.seconds: list[float] = []
        self.rates: list[float] = []

    def resume(self, checkpoint: str) -> None:
        """Take over the times of the steps before a checkpoint."""
        self.seconds = [float(each) for each in read_json(Path(checkpoint) / WHOLE)["seconds"]]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show what was done before."""
        self._tick(state.global_step)
        self._tokens = state.num_input_tokens_seen

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock."""
        seconds = time.perf_counter() - self._began
        self.seconds.append(seconds)
        self.rates.append((state.num_input_tokens_seen - self._tokens) / seconds)
        self._tokens = state.num_input_tokens_seen

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop at a loss that is not finite; else tell of the step, now that all is written."""
        loss = (kwargs.get("logs") or {}).get("loss")
        if loss is not None:
            check_finite("", {"loss": loss}, state.global_step, self._lr)
            self._tick(1)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mark the checkpoint as whole."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if folder.is_dir() and state.is_world_process_zero:
            write_text(folder / WHOLE, json.dumps({"seconds": self.seconds}) + "\n")


class Curve(TrainerCallback):
    """Validation every few steps: lines {"step", "seconds", "metrics"} of `curve.jsonl`.

    When a run is resumed, lines past the checkpoint are dropped.

    Args:
        file: to write.
        every: steps.
        judge: model → metrics.
        watch: whose seconds of the steps are added up.
        lr: for messages.
    """

    def __init__(
        self,
        file: Path,
        every: int,
        judge: Callable[[Any], dict[str, float]],
        watch: Watch,
        lr: float,
    ) -> None:
        self._file, self._every, self._judge = file, every, judge
        self._watch, self._lr = watch, lr

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin the file, or cut it back to the checkpoint."""
        if state.global_step == 0:
            write_text(self._file, "")
        self.cut(state.global_step)

    def cut(self, step: int) -> None:
        """Drop the lines past a step, and one that a kill left half written."""
        if self._file.exists():
            lines = self._file.read_text().splitlines()
            kept = [line for line in lines if _step(line) <= step]
            write_text(self._file, "".join(line + "\n" for line in kept))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Judge, if it is time."""
        if state.global_step % self._every:
            return
        metrics = self._judge(kwargs["model"])
        check_finite("validation ", metrics, state.global_step, self._lr)
        line = {
            "step": state.global_step,
            "seconds": math.fsum(self._watch.seconds),
            "metrics": metrics,
        }
        with self._file.open("a") as file:
            file.write(json.dumps(line) + "\n")


def median(values: list[float]) -> float | None:
    """Without the first, which warms up."""
    return statistics.median(values[1:] or values) if values else None


def _step(line: str) -> float:
    """Step of a line; infinity for one that a killed process left half written."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
