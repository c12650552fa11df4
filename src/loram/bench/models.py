"""Starting all linear layers: LLaMA-2-7B and 70B by summing layers, SmolLM2 and MiniLM for real.

loram bench models --only llama-2-7b --dtype bfloat16
"""

import statistics
from collections.abc import Iterator, Mapping

import torch

from loram.bench.errors import BenchError
from loram.bench.layer import FLOORS, floor_of, layer_works, weight
from loram.bench.measurement import Stage
from loram.bench.paired import Times, beside, rounds
from loram.bench.settings import BenchSettings
from loram.bench.table import Measured
from loram.bench.whole import STARTS, WHOLE, measure_whole

__all__ = ["SHAPES", "measure"]

Shapes = dict[tuple[int, int], int]
"""Shape (n, m): how many of it are in the model."""

# 4 projections of attention and 3 of the MLP a layer; of 70B keys and values have 8 heads of 128.
SHAPES: dict[str, Shapes] = {
    "llama-2-7b": {(4096, 4096): 32 * 4, (11008, 4096): 32 * 2, (4096, 11008): 32},
    "llama-2-70b": {
        (8192, 8192): 80 * 2,
        (1024, 8192): 80 * 2,
        (28672, 8192): 80 * 2,
        (8192, 28672): 80,
    },
}
TINY: dict[str, Shapes] = {"tiny": {(64, 64): 4, (96, 64): 2, (64, 96): 1}}
ROWS = ("nu", "loram", "loram-residual", "lora")
NOTE = (
    "A layer's time, by round, times how many of its shape there are. On top come the bases, drawn "
    "once a width and rank (`loram bench init`)."
)


def measure(settings: BenchSettings, stage: Stage) -> Iterator[Measured]:
    """A table a model, dtype and rank. Rows may be chosen of the real models'.

    Raises:
        BenchError: a model or row that is not known.
    """
    sums = TINY if settings.quick else SHAPES
    real = ("tiny model",) if settings.quick else WHOLE
    only = settings.only or []
    for name in only:
        if name not in (*sums, *real, *STARTS):
            known = f"{', '.join((*sums, *real))}; of rows {', '.join(STARTS)}"
            raise BenchError(f"no model or row {name!r} here: expected of models {known}")
    rows = [name for name in STARTS if name in only]
    for name in [name for name in only if name not in STARTS] or [*sums, *real]:
        if name not in sums:
            yield from measure_whole(name, settings, stage, rows)
            continue
        for dtype in settings.dtypes("float32", "bfloat16"):
            for r in settings.ranks(16):
                yield _summed(name, sums[name], dtype, r, settings, stage)


def _summed(
    model: str, shapes: Shapes, dtype: str, r: int, settings: BenchSettings, stage: Stage
) -> Measured:
    count = settings.count(5)
    tick = stage(f"{model} {dtype} r {r}", len(shapes) * (count + 1))
    found: dict[tuple[int, int], Times] = {}
    for shape in shapes:  # one weight at a time is in memory
        found[shape] = rounds(layer_works(weight(shape, dtype), r, ROWS), count, told=tick)
    times = total(found, shapes)
    floors = {name: floor_of(name, r) for name in times}
    rows = beside(times, floors, unit=1, of="s", against=("read", "norm"))
    entries = sum(n * m * number for (n, m), number in shapes.items())
    size = entries * getattr(torch, dtype).itemsize / 1e9
    for row in rows:
        row["GB/s"] = size / statistics.median(times[str(row["work"])])
    return Measured(
        f"models_{model}_{dtype}_r{r}",
        f"starting all linear layers of {model} ({size:.1f} GB of {dtype}), r {r}, "
        f"{torch.get_num_threads()} threads, sums of layers' times, median of {count}",
        rows,
        NOTE,
    )


def total(found: Mapping[tuple[int, int], Times], shapes: Shapes) -> Times:
    """Seconds of the whole model in each round."""
    some = next(iter(found.values()))
    order = [*FLOORS, *(name for name in some if name not in FLOORS)]
    return {
        name: [
            sum(number * found[shape][name][i] for shape, number in shapes.items())
            for i in range(len(some[name]))
        ]
        for name in order
    }
