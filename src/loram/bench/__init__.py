"""What things cost, each beside its floor, in paired rounds of one process.

A new measurement is a module of this room with a function `measure`, and a row here.
"""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from loram.bench.errors import BenchError
from loram.bench.settings import BenchSettings

if TYPE_CHECKING:
    from loram.bench.measurement import Stage
    from loram.bench.table import Measured

__all__ = ["MEASUREMENTS", "BenchError", "BenchSettings", "check", "measured"]

MEASUREMENTS: MappingProxyType[str, str] = MappingProxyType(
    {
        "init": "starting an adapter on one layer of LLaMA-2-7B's shapes, LoRAM and PEFT's methods",
        "models": "the same over all layers of LLaMA-2-7B and 70B; SmolLM2 and MiniLM for real",
        "growth": "the start's time with n·m, up to 16384 x 16384, and with r; draws it",
        "step": "a training step, against plain LoRA and the frozen base",
        "memory": "peak memory of training steps, a process each",
        "probe": "logging the magnitudes of every layer at every step, over the step",
        "export": "writing plain LoRA of rank 2r, the best rank r, merged weights: seconds, bytes",
        "load": "loading a saved adapter, against plain LoRA of the same rank: seconds, bytes",
        "serve": "reading a prompt and generating: merged, exported, unmerged, against the base",
    }
)
"""Measurements by name, in the order in which all are done: what each measures."""


def check(names: Sequence[str]) -> None:
    """Refuse names that are not there, all of them at once.

    Raises:
        BenchError: some are not.
    """
    wrong = [name for name in names if name not in MEASUREMENTS]
    if wrong:
        near = get_close_matches(wrong[0], MEASUREMENTS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise BenchError(
            f"no measurement {', '.join(map(repr, wrong))}.{hint} Known: {', '.join(MEASUREMENTS)}"
        )


def measured(names: Sequence[str], settings: BenchSettings, stage: "Stage") -> "Iterator[Measured]":
    """Do measurements one after the other; each table is kept as JSON as soon as it is done.

    Args:
        names: of `MEASUREMENTS`.
        settings: for all of them.
        stage: told of what is being done, for progress bars.

    Raises:
        BenchError: an unknown name, or settings that a measurement can't use.
    """
    check(names)
    from loram.bench.table import keep

    try:  # before minutes are spent
        settings.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchError(
            f"can't write to --out {settings.out}: {error.strerror}. Expected a folder, or a "
            "name for a new one"
        ) from error
    for name in names:
        module = import_module(f"{__name__}.{name}")
        for table in module.measure(settings, stage):
            keep(
                table.name,
                table.rows,
                settings.out,
                title=table.title,
                note=table.note,
                files=[file.name for file in table.files],
            )
            yield table
