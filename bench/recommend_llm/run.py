"""TALLRec, CoLLM, MACDAE to LLM, LLaRA and iLoRA on SmolLM2 and ml-100k, several seeds each.

python bench/recommend_llm/run.py tallrec     # LoRA and LoRAM, 64 and 256 shots, a rate of its own
python bench/recommend_llm/run.py vectors     # CoLLM and MACDAE to LLM beside their controls
python bench/recommend_llm/run.py sequences   # LLaRA and iLoRA, twenty candidates
python bench/recommend_llm/table.py tallrec   # the table of what is done

The settings are the package's `-small` ones, with fewer passes: what one CPU core does in hours.
LoRA and LoRAM have learning rates of their own, by the validation of short runs of TALLRec at 64
shots, one seed, on one grid for both that grows where a best rate is at its end. Each run is a
folder of `loram recommend train` under --out; the same command goes on with what is missing, and
--only NAME takes the runs whose names begin so.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from plan import PLANS, POINTS, Planned, rate, tuning

from loram.recommend.llm.run import run
from loram.recommend.llm.settings import read_yaml

GROWS = 3  # points beyond either end of the grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan", choices=list(PLANS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="beginning of the names of the runs to do")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run later")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/recommend_llm"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    began = time.monotonic()
    for planned in wanted(options.plan, options.seeds, options.out):
        if time.monotonic() - began > options.minutes * 60:
            break
        if not planned.name.startswith(options.only):
            continue
        run(read_yaml(planned.config, list(planned.changes)), options.out / planned.name)
        print(planned.name, f"{(time.monotonic() - began) / 60:.0f} min", flush=True)


def wanted(plan: str, seeds: int, out: Path) -> Iterator[Planned]:
    """Runs in order; those of a tuned rate come once the rate is known."""
    tuned, runs = PLANS[plan]
    points = list(POINTS)
    while tuned:
        yield from (tuning(method, point) for point in points for method in tuned)
        best = {rate(out, name) for name in tuned}
        (low, high), first, last = (points[0], points[-1]), POINTS[0], POINTS[-1]
        if 10**low in best and low > first - GROWS / 2:
            points.insert(0, low - 0.5)
        elif 10**high in best and high < last + GROWS / 2:
            points.append(high + 0.5)
        else:
            break
    rates = {name: rate(out, name) for name in tuned}
    yield from (each for seed in range(seeds) for each in runs(rates, seed))


if __name__ == "__main__":
    main()
