"""Time and memory of LoRAM beside plain LoRA in the trainer of images: each run a process.

python bench/vision_cost.py --data runs/emoji/google [--rounds 3]

The methods take turns; a round's ratio is of its own two runs. Medians over rounds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

STEPS = 10
SMALL = {"train-size": 80, "held-out-size": 2, "answers": 0, "validation-size": 0}
SAME = {"task": "images", "model": "smollm2-lite0", "steps": STEPS, "save-every": 0}
SAME |= {"magnitudes-every": 0, "max-length": 64, "batch-size": 8, "head-lr": 1e-3, "lr": 1e-3}


def measured(method: str, options: argparse.Namespace) -> tuple[float, float]:
    """Median seconds of a step, and the peak of the process in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        asked = {**SAME, **SMALL, "method": method, "data": options.data, "out": out}
        asked |= {"rank": options.rank, "dtype": options.dtype}
        words = [word for name, value in asked.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "loram", "train", *words]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        results = json.loads((out / "results.json").read_text())
    return results["step_seconds"], results["peak_memory_bytes"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    ratios: list[tuple[float, float]] = []
    for i in range(options.rounds):
        order = ("lora", "loram") if i % 2 == 0 else ("loram", "lora")
        found = {method: measured(method, options) for method in order}
        (time, memory), (base_time, base_memory) = found["loram"], found["lora"]
        ratios.append((base_time / time, memory / base_memory))
        print(f"round {i + 1}: lora {base_time:.3f} s, loram {time:.3f} s a step", flush=True)
    speed, memory = (statistics.median(each) for each in zip(*ratios, strict=True))
    print(f"loram over lora: speed {speed:.3f}, peak memory {memory:.3f}")


if __name__ == "__main__":
    main()
