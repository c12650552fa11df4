"""A training step on SmolLM2: LoRAM's two forms against PEFT's plain LoRA, taking turns.

python bench/step.py [--rounds 7] [--rank 16] [--dtype bfloat16]
"""

import argparse
import statistics
import warnings

from paired import ratio, report, rounds
from smollm2 import BATCH, LENGTH, training_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    inits = {"plain LoRA": True, "loram": "loram", "loram_residual": "loram_residual"}
    steps = {
        name: training_step(init, rank=options.rank, dtype=options.dtype)[1]
        for name, init in inits.items()
    }
    times = rounds(steps, options.rounds)
    report(
        "step",
        f"training step, SmolLM2 {options.dtype}, float32 adapters, r {options.rank}, "
        f"{BATCH}x{LENGTH} tokens, {options.rounds} rounds",
        [
            {
                "form": name,
                "seconds": statistics.median(times[name]),
                "tokens/s": BATCH * LENGTH / statistics.median(times[name]),
                "tokens/s over plain LoRA": ratio(times, "plain LoRA", name)["median"],
                "least": ratio(times, "plain LoRA", name)["min"],
                "most": ratio(times, "plain LoRA", name)["max"],
            }
            for name in steps
        ],
    )


if __name__ == "__main__":
    main()
