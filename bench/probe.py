"""Cost of logging every layer's magnitudes at every step, over a training step of SmolLM2.

python bench/probe.py [--rounds 7]
"""

import argparse
import statistics
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

from loram.probe import MagnitudeLog
from paired import ratio, report, rounds
from smollm2 import training_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for name, init in {"plain LoRA": True, "loram": "loram"}.items():
        model, step = training_step(init)
        with tempfile.TemporaryDirectory() as folder:
            log = MagnitudeLog(model, Path(folder, "magnitudes.jsonl"))
            state = SimpleNamespace(global_step=1)
            write = lambda log=log, state=state: log.on_step_end(None, state, None)  # noqa: E731
            times = rounds({"step": step, "log": write}, options.rounds)
        rows.append(
            {
                "adapter": name,
                "step (s)": statistics.median(times["step"]),
                "log (s)": statistics.median(times["log"]),
                "log over step": ratio(times, "log", "step")["median"],
            }
        )
    report("probe", "magnitudes of 210 layers, SmolLM2 bfloat16, r 16, 4x256 tokens", rows)


if __name__ == "__main__":
    main()
