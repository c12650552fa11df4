"""The folder of a training run, also one that was killed: settings, losses, magnitudes."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from pydantic import ValidationError

from loram.diagnose.errors import DiagnoseError
from loram.probe.reading import LayerMagnitudes
from loram.train.settings import TrainSettings

__all__ = ["RunLog", "Step", "read_run"]


class Step(NamedTuple):
    """All layers after a step; 0 is the start."""

    step: int
    layers: dict[str, LayerMagnitudes]


@dataclass(frozen=True, slots=True)
class RunLog:
    """What a run has written so far.

    Attributes:
        settings: of the run.
        losses: (step, loss); empty until the run has ended.
        steps: of magnitudes.jsonl, from the start on; empty for full fine-tuning.
        torn: files whose reading ended at a broken line.
        weights: ν[W] of each layer; empty for logs of versions that did not write it.
    """

    settings: TrainSettings
    losses: list[tuple[int, float]]
    steps: list[Step]
    torn: list[str]
    weights: dict[str, float]


def read_run(folder: Path) -> RunLog:
    """Read a run of `loram train`; of a file with a half-written line, what is before it.

    Raises:
        DiagnoseError: settings that are not a run's, or nothing logged.
    """
    torn: list[str] = []
    losses = [
        (int(row["step"]), float(row["loss"]))
        for row in _lines(folder / "losses.jsonl", ("step", "loss"), torn)
    ]
    rows = _lines(folder / "magnitudes.jsonl", ("step", "layers"), torn)
    try:
        steps = [
            Step(int(row["step"]), {name: _magnitudes(v) for name, v in row["layers"].items()})
            for row in rows
        ]
        known = rows[0].get("weights", {}) if rows else {}
        weights = {name: float(value) for name, value in known.items() if value is not None}
    except (TypeError, ValueError, AttributeError) as error:
        raise DiagnoseError(
            f"{folder / 'magnitudes.jsonl'}: expected layers as name: [ν[A], ν[B], ν[W_LoRA]] "
            f"({error})"
        ) from error
    if not losses and not any(step.step > 0 for step in steps):
        raise DiagnoseError(
            f"{folder}: no step is logged yet: expected losses.jsonl or magnitudes.jsonl with lines"
        )
    return RunLog(_settings(folder / "settings.json"), losses, steps, torn, weights)


def _magnitudes(values: list[float | None]) -> LayerMagnitudes:
    """The first three values of a layer; NaN for what the probe could not say."""
    return LayerMagnitudes(*(math.nan if value is None else float(value) for value in values[:3]))


def _settings(file: Path) -> TrainSettings:
    try:
        return TrainSettings.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise DiagnoseError(
            f"{file}: expected the settings of a run of `loram train`, written by this version "
            f"({str(error).splitlines()[0]})"
        ) from error


def _lines(file: Path, keys: tuple[str, ...], torn: list[str]) -> list[dict[str, Any]]:
    """The objects of a JSONL file up to the first line that is not one."""
    if not file.is_file():
        return []
    rows: list[dict[str, Any]] = []
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict) or any(key not in row for key in keys):
                torn.append(f"{file.name}, line {number}")
                break
            rows.append(cast(dict[str, Any], row))
    return rows
