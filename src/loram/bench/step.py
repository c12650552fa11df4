"""A training step: LoRAM's two forms against PEFT's plain LoRA and the frozen base, taking turns.

loram bench step --rank 16 --rank 64 --dtype bfloat16
"""

import copy
import statistics
from collections.abc import Iterator

import torch

from loram.bench.measurement import Stage
from loram.bench.paired import ratio, rounds
from loram.bench.settings import BenchSettings
from loram.bench.subject import adapted, base_model, batch_of, frozen, label, training_step
from loram.bench.table import Measured, Row

__all__ = ["FLOOR", "METHODS", "measure"]

METHODS = ("lora", "loram", "loram-residual")
FLOOR = "frozen base"


def measure(settings: BenchSettings, stage: Stage) -> Iterator[Measured]:
    """A table for each dtype and rank."""
    count = settings.count(7)
    for dtype in settings.dtypes("bfloat16"):
        base = base_model(settings, dtype)
        ids = batch_of(settings, base)
        for r in settings.ranks(16):
            steps = {FLOOR: training_step(frozen(copy.deepcopy(base)), ids)}
            for name in METHODS:
                steps[name] = training_step(adapted(copy.deepcopy(base), name, rank=r), ids)
            times = rounds(steps, count, told=stage(f"steps {dtype} r {r}", count + 1))
            yield Measured(
                f"step_{dtype}_r{r}",
                f"training step, {label(settings)} {dtype}, float32 adapters on all linear, r {r}, "
                f"{ids.shape[0]}x{ids.shape[1]} tokens, {torch.get_num_threads()} threads, "
                f"median of {count}",
                [_row(times, name, ids.numel()) for name in steps],
                "The frozen base: forward, and backward to its embeddings. More is better in "
                "tokens/s over lora, less in over floor.",
            )


def _row(times: dict[str, list[float]], name: str, tokens: int) -> Row:
    speed, over = ratio(times, "lora", name), ratio(times, name, FLOOR)
    return {
        "form": name,
        "s": statistics.median(times[name]),
        "tokens/s": tokens / statistics.median(times[name]),
        "tokens/s over lora": speed["median"],
        "least": speed["min"],
        "most": speed["max"],
        "floor": None if name == FLOOR else FLOOR,
        "over floor": over["median"],
    }
