"""Cost of logging every layer's magnitudes at every step, over a training step; and of the norm of
a low-rank update over that of the product written out.

loram bench probe --rounds 7
"""

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from loram.bench.measurement import Stage
from loram.bench.paired import ratio, rounds, seconds
from loram.bench.settings import BenchSettings
from loram.bench.subject import adapted, base_model, batch_of, label, training_step
from loram.bench.table import Measured, Row
from loram.magnitude import nu_update
from loram.probe import MagnitudeLog

__all__ = ["measure"]

SIZE, TINY = 4096, 64
MOVED = (1.0, 1e-1, 1e-3, 1e-5)


def measure(settings: BenchSettings, stage: Stage) -> Iterator[Measured]:
    """Two tables for each dtype and rank."""
    for dtype in settings.dtypes("bfloat16"):
        for r in settings.ranks(16):
            rows = [_cost(name, settings, dtype, r, stage) for name in ("lora", "loram")]
            yield Measured(
                f"probe_{dtype}_r{r}",
                f"logging all layers at every step, {label(settings)} {dtype}, r {r}, "
                f"{torch.get_num_threads()} threads, median of {settings.count(7)}",
                rows,
                "The floor is a step without the log.",
            )
            size = TINY if settings.quick else SIZE
            yield Measured(
                f"low_rank_norm_r{r}",
                f"ν of an update, {size}x{size}, r {r}, float32 factors",
                [_norm(moved, size, r) for moved in MOVED],
            )


def _cost(name: str, settings: BenchSettings, dtype: str, r: int, stage: Stage) -> Row:
    """The callback's three hooks of a step, beside the step."""
    base = base_model(settings, dtype)
    ids = batch_of(settings, base)
    model = adapted(base, name, rank=r)
    step = training_step(model, ids)
    step(clear=False)  # leaves gradients to be read
    count = settings.count(7)
    with tempfile.TemporaryDirectory() as folder:
        log: Any = MagnitudeLog(model, Path(folder, "magnitudes.jsonl"))
        state = SimpleNamespace(global_step=1)

        def write() -> None:
            log.on_step_begin(None, state, None)
            log.on_pre_optimizer_step(None, state, None)
            log.on_step_end(None, state, None)

        works = {"step": lambda: step(clear=False), "log": write}
        times = rounds(works, count, told=stage(f"log of {name} {dtype}", count + 1))
    over = ratio(times, "log", "step")
    return {
        "adapter": name,
        "step (s)": statistics.median(times["step"]),
        "log (s)": statistics.median(times["log"]),
        "floor": "step",
        "log over step": over["median"],
        "least": over["min"],
        "most": over["max"],
    }


def _norm(moved: float, size: int, r: int) -> Row:
    """Factors that have moved by `moved` of where they began, against float64 written out."""
    g = torch.Generator().manual_seed(0)
    B0, dB = (torch.randn(size, r, generator=g) for _ in range(2))
    A0, dA = (torch.randn(r, size, generator=g) for _ in range(2))
    B, A = B0 + moved * dB, A0 + moved * dA
    B64, A64, B064, A064 = (each.double() for each in (B, A, B0, A0))
    dense = float((B64 @ A64 - B064 @ A064).square().mean())
    got = nu_update(B, A, B0, A0)
    low = statistics.median(seconds(lambda: nu_update(B, A, B0, A0)) for _ in range(50))
    high = statistics.median(
        seconds(lambda: (B64 @ A64 - B064 @ A064).square().mean()) for _ in range(3)
    )
    return {
        "update over start": moved,
        "relative error": abs(got - dense) / dense,
        "low-rank (ms)": 1e3 * low,
        "dense float64 (ms)": 1e3 * high,
        "times faster": high / low,
    }
