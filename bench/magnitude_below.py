"""How well ν[W_LoRA] and the rate predict losses, without runs that ended worse than they began.

    python bench/magnitude_below.py runs/smollm2

As the report's section on magnitude, which takes all runs: there two whose magnitude no other
method came to, at six times the others' loss, are most of what is left to explain.
"""

import sys
from pathlib import Path

from loram.study.collapse import Point, collapse
from loram.study.report.read import read_study
from loram.study.results import score


def main(folder: Path) -> None:
    results = read_study(folder).results
    for task in results.design.tasks:
        runs = [run for run in results.runs if run.task == task and run.record.losses]
        start = max(run.record.losses[0] for run in runs)
        kept = [
            Point(run.label, run.record.lr, run.record.update, value)
            for run in runs
            if run.record.update
            and (value := score(run.record, "test")) is not None
            and value < start
        ]
        found = collapse(kept)
        assert found is not None, f"{task}: too few runs"
        print(f"{task}: {len(kept)} of {len(runs)} runs")
        shares = {"ν[W_LoRA]": found.by_update, "lr": found.by_lr, "difference": found.advantage}
        for name, each in shares.items():
            low, high = each.low, each.high
            bounds = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
            print(f"  R², {name}: {each.r2:.2f}{bounds}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
