"""`loram export`: plain LoRA of rank 2r, the best rank r, merged weights; seconds and bytes.

loram bench export --rank 16
"""

import copy
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from loram.bench.measurement import Stage
from loram.bench.paired import Work, ratio, rounds
from loram.bench.settings import BenchSettings
from loram.bench.subject import base_model, label, saved
from loram.bench.table import Measured, Row
from loram.peft.export import export_merged, export_plain

__all__ = ["measure"]

WEIGHTS = "adapter_model.safetensors"


def measure(settings: BenchSettings, stage: Stage) -> Iterator[Measured]:
    """A table for each dtype of the base and rank."""
    count = settings.count(5)
    for dtype in settings.dtypes("bfloat16"):
        base = base_model(settings, dtype)
        for r in settings.ranks(16):
            with tempfile.TemporaryDirectory() as scratch:
                yield _measured(base, dtype, r, count, Path(scratch), settings, stage)


def _measured(
    base: torch.nn.Module,
    dtype: str,
    r: int,
    count: int,
    scratch: Path,
    settings: BenchSettings,
    stage: Stage,
) -> Measured:
    adapter = scratch / "adapter"
    saved(copy.deepcopy(base), "loram", adapter, rank=r)
    large = export_plain(adapter, scratch / "plain").bytes
    small = export_plain(adapter, scratch / "small", rank=r).bytes
    export_merged(adapter, scratch / "merged", copy.deepcopy(base))
    whole = scratch / "merged" / "model.safetensors"
    new = itertools.count()

    def fresh() -> Path:
        return scratch / f"out{next(new)}"

    def copied(file: Path) -> Callable[[], object]:
        """Reads the tensors and writes them: what no export can do without."""
        return lambda: save_file(load_file(file), fresh())

    works = {
        "rank 2r": Work(lambda: export_plain(adapter, fresh())),
        "rank r": Work(lambda: export_plain(adapter, fresh(), rank=r)),
        "merged": Work(
            lambda model: export_merged(adapter, fresh(), model), lambda: (copy.deepcopy(base),)
        ),
        "copy of the adapter": Work(copied(adapter / WEIGHTS)),
        "copy of rank 2r": Work(copied(scratch / "plain" / WEIGHTS)),
        "copy of merged": Work(copied(whole)),
    }
    times = rounds(works, count, told=stage(f"export {dtype} r {r}", count + 1))
    sizes = {"rank 2r": large, "rank r": small, "merged": whole.stat().st_size}
    floors = {
        "rank 2r": "copy of rank 2r",
        "rank r": "copy of the adapter",
        "merged": "copy of merged",
    }
    rows: list[Row] = []
    for name in works:
        over = ratio(times, name, floors[name]) if name in floors else {}
        rows.append(
            {
                "work": name,
                "s": statistics.median(times[name]),
                "MB": (sizes[name] / 1e6) if name in sizes else None,
                "floor": floors.get(name),
                "over floor": over.get("median"),
                "least": over.get("min"),
                "most": over.get("max"),
            }
        )
    return Measured(
        f"export_{dtype}_r{r}",
        f"exporting a LoRAM adapter, {label(settings)} {dtype}, all linear, r {r}, "
        f"{torch.get_num_threads()} threads, median of {count}",
        rows,
        "A copy reads tensors of that size from a file and writes them.",
    )
