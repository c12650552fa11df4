"""Time to put an adapter on SmolLM2: LoRAM's two forms, plain LoRA, PiSSA.

python bench/init.py [--rounds 5]
"""

import argparse
import copy
import statistics
import warnings

import torch
from peft import LoraConfig, get_peft_model

import loram  # noqa: F401 - registers
from loram.train.model import load_pretrained
from paired import ratio, report, seconds

INITS = {
    "plain LoRA": True,
    "loram": "loram",
    "loram_residual": "loram_residual",
    "pissa_niter_16": "pissa_niter_16",
    "pissa": "pissa",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    base, _ = load_pretrained("smollm2", getattr(torch, options.dtype))
    times: dict[str, list[float]] = {name: [] for name in INITS}
    for _ in range(options.rounds):
        for name, init in INITS.items():
            fresh = copy.deepcopy(base)
            config = LoraConfig(
                r=16, lora_alpha=16, target_modules="all-linear", init_lora_weights=init
            )
            times[name].append(seconds(lambda f=fresh, c=config: get_peft_model(f, c)))
    report(
        "init",
        f"adding an adapter to SmolLM2 ({options.dtype}), all linear, r 16, median of "
        f"{options.rounds}",
        [
            {
                "init": name,
                "seconds": statistics.median(times[name]),
                "beyond plain LoRA (s)": statistics.median(
                    a - b for a, b in zip(times[name], times["plain LoRA"], strict=True)
                ),
                "over plain LoRA": ratio(times, name, "plain LoRA")["median"],
                "PiSSA over it": ratio(times, "pissa", name)["median"],
            }
            for name in INITS
        ],
    )


if __name__ == "__main__":
    main()
