"""PeftModel.from_pretrained of LoRAM's adapters against plain LoRA's of the same rank.

loram bench load --rank 16
"""

import copy
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open

from loram.bench.export import WEIGHTS
from loram.bench.measurement import Stage
from loram.bench.paired import Work, ratio, rounds
from loram.bench.settings import BenchSettings
from loram.bench.subject import base_model, label, saved
from loram.bench.table import Measured, Row
from loram.peft.attach import load_adapter

__all__ = ["measure"]

METHODS = ("lora", "loram", "loram-residual")
FLOOR = "lora"


def measure(settings: BenchSettings, stage: Stage) -> Iterator[Measured]:
    """A table for each dtype of the base and rank."""
    count = settings.count(7)
    for dtype in settings.dtypes("bfloat16"):
        base = base_model(settings, dtype)
        for r in settings.ranks(16):
            with tempfile.TemporaryDirectory() as scratch:
                folders = {name: Path(scratch, name) for name in METHODS}
                works: dict[str, Work] = {}
                for name, folder in folders.items():
                    saved(copy.deepcopy(base), name, folder, rank=r)
                    works[name] = Work(_load(folder), _copies(base))
                times = rounds(works, count, told=stage(f"load {dtype} r {r}", count + 1))
                rows = [_row(times, name, folders) for name in METHODS]
            yield Measured(
                f"load_{dtype}_r{r}",
                f"loading an adapter, {label(settings)} {dtype}, all linear, r {r}, "
                f"{torch.get_num_threads()} threads, median of {count}",
                rows,
                "More bytes a layer: of the file, header included, than plain LoRA's.",
            )


def _load(folder: Path) -> Callable[[torch.nn.Module], object]:
    return lambda model: load_adapter(model, folder)


def _copies(base: torch.nn.Module) -> Callable[[], tuple[torch.nn.Module]]:
    return lambda: (copy.deepcopy(base),)


def _row(times: dict[str, list[float]], name: str, folders: dict[str, Path]) -> Row:
    over = ratio(times, name, FLOOR)
    size, plain = ((folders[each] / WEIGHTS).stat().st_size for each in (name, FLOOR))
    with safe_open(folders[FLOOR] / WEIGHTS, "pt") as file:
        layers = sum(".lora_A." in key for key in file.keys())  # noqa: SIM118 - not a dict
    return {
        "form": name,
        "s": statistics.median(times[name]),
        "floor": None if name == FLOOR else FLOOR,
        "over floor": over["median"],
        "least": over["min"],
        "most": over["max"],
        "MB": size / 1e6,
        "more bytes a layer": (size - plain) / layers,
    }
