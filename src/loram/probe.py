"""Magnitudes of a live model's adapter, measured while it trains.

    >>> trainer.add_callback(MagnitudeLog(model, "runs/x/magnitudes.jsonl"))

Works for any LoRA adapter of PEFT on linear layers, whatever its initialisation: W_LoRA is
s(BA − B⁰A⁰), where B⁰, A⁰ are LoRAM's basis, or what the factors were when the probe was made.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from loram.files import write_text
from loram.peft.probing import Family, families

__all__ = ["LayerMagnitudes", "MagnitudeLog", "MagnitudeProbe"]


class LayerMagnitudes(NamedTuple):
    """ν[A] and ν[B] of the factors, and ν[W_LoRA] of the update since the start, of one layer."""

    A: float
    B: float
    update: float


class MagnitudeProbe:
    """Reads ν[A], ν[B], ν[W_LoRA] of every layer by r×r algebra: O((n + m)r²) a layer.

    Layers of equal shape are read together, so that a step costs a few dozen small products and one
    transfer to the host.

    Args:
        model: with its adapter at the start of training. For LoRAM the start is the basis, so the
            probe may be made at any time; for other methods the factors are copied here.
        adapter: its name; the active one by default.
    """

    def __init__(self, model: nn.Module, adapter: str | None = None) -> None:
        self._families = families(model, adapter)

    @torch.no_grad()
    def read(self) -> dict[str, LayerMagnitudes]:
        """Magnitudes now, by layer name."""
        read: dict[str, LayerMagnitudes] = {}
        for family in self._families:
            values = _magnitudes(family).tolist()
            read |= {
                name: LayerMagnitudes(*row) for name, row in zip(family.names, values, strict=True)
            }
        return read


class MagnitudeLog(TrainerCallback):
    """Trainer callback: one JSON line a step, `{"step": k, "layers": {name: [ν[A], ν[B], ν[W]]}}`.

    Step 0 is the start. When a run is resumed, lines past the checkpoint are dropped, so the file
    reads as if the run had never stopped.

    Args:
        model: with its adapter at the start of training.
        path: JSONL file; its folder is made.
        adapter: its name; the active one by default.
        every: steps between lines.
    """

    def __init__(
        self,
        model: nn.Module,
        path: str | os.PathLike[str],
        *,
        adapter: str | None = None,
        every: int = 1,
    ) -> None:
        self._probe = MagnitudeProbe(model, adapter)
        self._path = Path(path)
        self._every = every

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the start, or cut the file back to the checkpoint."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = [
            line
            for line in (self._path.read_text().splitlines() if self._path.exists() else [])
            if _step(line) <= state.global_step
        ]
        if state.global_step == 0:
            kept = []
        write_text(self._path, "".join(line + "\n" for line in kept))
        if state.global_step == 0:
            self._write(0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the line of this step."""
        if state.global_step % self._every == 0:
            self._write(state.global_step)

    def _write(self, step: int) -> None:
        layers = {name: [*values] for name, values in self._probe.read().items()}
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, "layers": layers}) + "\n")


def _step(line: str) -> float:
    """Step of a line; infinity for one that a killed process left half written."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _magnitudes(family: Family) -> Tensor:
    """(layers, 3): ν[A], ν[B], ν[W_LoRA] of layers of one shape, on the CPU in float64.

    As `loram.magnitude.nu_deviation`, batched.
    """
    dB, dA, B0, A0, scaling = family.stack()
    A, B = A0 + dA, B0 + dB
    left = torch.cat([dB, B0.expand_as(dB)], dim=2)  # (layers, n, 2r)
    right = torch.cat([A, dA], dim=1)  # (layers, 2r, m)
    gram = (left.mT @ left).double() * (right @ right.mT).double()
    update = gram.sum((1, 2)).clamp_min(0) * scaling**2 / (dB.shape[1] * dA.shape[2])
    return torch.stack(
        [A.square().mean((1, 2)).double(), B.square().mean((1, 2)).double(), update], dim=1
    ).cpu()
