"""What a checkpoint, an adapter or a training run says about its magnitudes, and what to do.

>>> report = diagnose("smollm2", rank=16, spectrum="randomised")
>>> write(report, Path("diagnosis"))
"""

from collections.abc import Callable
from pathlib import Path

from loram.checkpoints import weight_files
from loram.diagnose.adapter import diagnose_adapter
from loram.diagnose.adapter_report import adapter_report
from loram.diagnose.errors import DiagnoseError
from loram.diagnose.log import read_run
from loram.diagnose.report import Report, Table, write
from loram.diagnose.run_report import run_report
from loram.diagnose.target import Kind, find
from loram.diagnose.weights import Spectrum, diagnose_weights
from loram.diagnose.weights_report import weights_report

__all__ = ["DiagnoseError", "Report", "Spectrum", "Table", "diagnose", "write"]

Begin = Callable[[int], Callable[[int], None]]
"""Number of layers → function told of every layer that is done."""


def diagnose(
    target: str,
    *,
    rank: int = 16,
    spectrum: Spectrum = "none",
    everything: bool = False,
    begin: Begin = lambda total: lambda done: None,
) -> Report:
    """Diagnose whatever the target is.

    Args:
        target: a checkpoint (folder, `.safetensors` file, embedded model, hub id), a PEFT LoRA
            adapter, or the folder of a run of `loram train`.
        rank: r of gains and β; for checkpoints.
        spectrum: whether and how to measure Q[r]; for checkpoints.
        everything: embeddings and heads too; for checkpoints.
        begin: for progress bars; for checkpoints.

    Raises:
        CheckpointError: nothing there, or a damaged checkpoint.
        DiagnoseError: what is there can't be read; the message says what to do.
        LoramError: a damaged adapter.
    """
    found = find(target)

    def checkpoint(path: Path) -> Report:
        files = weight_files(path)
        measured = diagnose_weights(
            files, rank=rank, spectrum=spectrum, everything=everything, begin=begin
        )
        return weights_report(measured, target)

    readers: dict[Kind, Callable[[Path], Report]] = {
        "adapter": lambda path: adapter_report(diagnose_adapter(path), target),
        "run": lambda path: run_report(read_run(path), target),
        "checkpoint": checkpoint,
    }
    return readers[found.kind](found.path)
