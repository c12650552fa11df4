"""Cost of logging every layer's magnitudes at every step, over a training step of SmolLM2; and of
the norm of a low-rank update over that of the product written out.

python bench/probe.py [--rounds 7]
"""

import argparse
import statistics
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

import torch

from loram.magnitude import nu_update
from loram.probe import MagnitudeLog
from paired import ratio, report, rounds, seconds
from smollm2 import training_step

SIZE, RANK = 4096, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = [cost(*row, options.rounds) for row in {"plain LoRA": True, "loram": "loram"}.items()]
    report("probe", "all of 210 layers, SmolLM2 bfloat16, r 16, 4x256 tokens", rows)
    norms = [norm(size) for size in (1.0, 1e-1, 1e-3, 1e-5)]
    report("low_rank_norm", f"ν of an update, {SIZE}x{SIZE}, r {RANK}, float32 factors", norms)


def cost(name: str, init: bool | str, count: int) -> dict[str, object]:
    """The callback's three hooks of a step, beside the step."""
    model, step = training_step(init)
    step(clear=False)  # leaves gradients to be read
    with tempfile.TemporaryDirectory() as folder:
        log = MagnitudeLog(model, Path(folder, "magnitudes.jsonl"))
        state = SimpleNamespace(global_step=1)

        def write() -> None:
            log.on_step_begin(None, state, None)
            log.on_pre_optimizer_step(None, state, None)
            log.on_step_end(None, state, None)

        times = rounds({"step": lambda: step(clear=False), "log": write}, count)
    over = ratio(times, "log", "step")
    return {
        "adapter": name,
        "step (s)": statistics.median(times["step"]),
        "log (s)": statistics.median(times["log"]),
        "log over step": over["median"],
        "smallest": over["min"],
        "largest": over["max"],
    }


def norm(size: float) -> dict[str, object]:
    """Factors that have moved by `size` of where they began, against float64 written out."""
    g = torch.Generator().manual_seed(0)
    B0, dB = (torch.randn(SIZE, RANK, generator=g) for _ in range(2))
    A0, dA = (torch.randn(RANK, SIZE, generator=g) for _ in range(2))
    B, A = B0 + size * dB, A0 + size * dA
    B64, A64, B064, A064 = (each.double() for each in (B, A, B0, A0))
    dense = float((B64 @ A64 - B064 @ A064).square().mean())
    got = nu_update(B, A, B0, A0)
    low = statistics.median(seconds(lambda: nu_update(B, A, B0, A0)) for _ in range(50))
    high = statistics.median(
        seconds(lambda: (B64 @ A64 - B064 @ A064).square().mean()) for _ in range(3)
    )
    return {
        "update over start": size,
        "relative error": abs(got - dense) / dense,
        "low-rank (ms)": 1e3 * low,
        "dense float64 (ms)": 1e3 * high,
        "times faster": high / low,
    }


if __name__ == "__main__":
    main()
