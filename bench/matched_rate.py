"""Does `matched_rate` match? LoRA's learning rate taken to other methods, and what they then move.

Every method is trained at the rate at which the Adam prediction gives its ν[W_LoRA] the geometric
mean over layers that LoRA has at the reference rate; measured is that mean over LoRA's, after the
last step. The column "at the same rate" is what the rule has to make up for. Runs are kept under
runs/bench/matched_rate; a killed benchmark goes on.

python bench/matched_rate.py [--model smollm2] [--lr 2e-4] [--steps 60]
python bench/matched_rate.py --model minilm --task glue/sst2 --data FOLDER --batch-size 8
"""

import argparse
import json
import math
import warnings
from pathlib import Path

from loram.bench.table import RUNS, report
from loram.dynamics import adam, matched_rate
from loram.magnitude import log_gain
from loram.train.matching import layer_starts
from loram.train.run import run
from loram.train.settings import TrainSettings


def log_mean(updates: list[float]) -> float:
    return math.fsum(map(math.log, updates)) / len(updates)


def measured(settings: TrainSettings, folder: Path) -> dict[int, float]:
    """Step → geometric mean of ν[W_LoRA] over layers; nothing for step 0."""
    run(settings, folder, stage=lambda what, total: print(f"  {what}") or (lambda n: None))
    rows = map(json.loads, (folder / "magnitudes.jsonl").read_text().splitlines())
    updates = {row["step"]: [each[2] for each in row["layers"].values()] for row in rows}
    return {step: math.exp(log_mean(each)) for step, each in updates.items() if min(each) > 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--task", default="answers")
    parser.add_argument("--data", default=None, help="by default the task's own")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=160)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    common = TrainSettings(
        task=options.task,
        model=options.model,
        data=options.data,
        method="lora",
        rank=options.rank,
        lr=options.lr,
        steps=options.steps,
        batch_size=options.batch_size,
        max_length=options.max_length,
        held_out_size=2,
        max_grad_norm=0.0,  # clipping by the global norm is outside of what is predicted
        save_every=options.steps,
    )
    reference = layer_starts(common) or []
    least = min(min(layer.n, layer.m) for layer in reference)
    tenth = log_gain(least, least, options.rank) / 10
    name = f"{Path(options.model).name}-{options.steps}-{options.lr:g}"
    base = RUNS / "matched_rate" / name
    of_lora = measured(common, base / "lora")
    rows: list[dict[str, object]] = []
    for method in ("pissa", "olora", "loram", f"loram(gain={tenth:.3g})"):
        print(method)
        settings = common.model_copy(update={"method": method})
        layers = layer_starts(settings) or []
        rate = matched_rate(layers, reference, options.lr, steps=options.steps)
        same = adam.drift([options.lr] * options.steps)
        ratio = log_mean([adam.update(layer, same) for layer in layers])
        ratio -= log_mean([adam.update(layer, same) for layer in reference])
        found = measured(settings.model_copy(update={"lr": rate}), base / method)
        rows.append(
            {
                "method": method,
                "matched lr": rate,
                "predicted ν over LoRA's at the same rate": math.exp(ratio),
                **{
                    f"measured at step {step}": found[step] / of_lora[step]
                    for step in (options.steps // 6, options.steps // 2, options.steps)
                },
            }
        )
        report(
            f"matched_rate_{name}",
            f"{options.model}, rank {options.rank}: ν[W_LoRA] over that of LoRA at {options.lr:g}",
            rows,
        )


if __name__ == "__main__":
    main()
