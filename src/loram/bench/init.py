"""Starting an adapter on one layer of LLaMA-2-7B's shapes: LoRAM and PEFT's methods, per layer.

loram bench init --shape 4096x4096 --rank 16 --dtype float32 --only loram --only pissa-niter-4
"""

from collections.abc import Iterator

import torch

from loram.bench.layer import floor_of, layer_works, weight
from loram.bench.measurement import Stage
from loram.bench.paired import beside, rounds
from loram.bench.settings import BenchSettings
from loram.bench.table import Measured

__all__ = ["measure"]

SHAPES = (4096, 4096), (11008, 4096), (4096, 11008)
TINY = ((96, 64),)
PLAIN = "lora"  # what PEFT's own making of a layer takes
NOTE = (
    "Rows of LoRAM and PEFT include PEFT's making of the layer, which is all that lora does. nu is "
    "the reading of W alone. read: every byte once, as integers that are summed."
)


def measure(settings: BenchSettings, stage: Stage) -> Iterator[Measured]:
    """A table for each dtype, rank and shape; exact SVDs once a shape, whatever dtype and rank."""
    done: set[tuple[int, int]] = set()
    for dtype in settings.dtypes("float32", "bfloat16"):
        for r in settings.ranks(16, 128):
            for n, m in settings.shapes(*(TINY if settings.quick else SHAPES)):
                slow = settings.slow and (n, m) not in done
                done.add((n, m))
                works = layer_works(weight((n, m), dtype), r, settings.only, slow=slow)
                count = settings.count(7)
                tick = stage(f"{n}x{m} {dtype} r {r}", count + 1)
                times = rounds(works, count, told=tick)
                floors = {name: floor_of(name, r) for name in works}
                yield Measured(
                    f"init_{n}x{m}_{dtype}_r{r}",
                    f"starting an adapter on W {n}x{m}, {dtype}, r {r}, "
                    f"{torch.get_num_threads()} threads, median of {count}",
                    beside(times, floors, against=("loram", PLAIN)),
                    NOTE,
                )
