"""How well ν[W_LoRA] and the rate predict a study's results, with some of its runs left out.

    python bench/magnitude_without.py runs/gsm8k --worse-than-start
    python bench/magnitude_without.py runs/references --labels loram

The report's table, which takes all runs. In the first study three runs ended worse than they began,
two of them at a magnitude that no other method came to; in the second twelve of twenty methods are
variants of one, which predict each other.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from loram.study.findings import find
from loram.study.report.read import read_study
from loram.study.report.wide import magnitudes
from loram.study.results import Run, score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the study")
    parser.add_argument(
        "--worse-than-start", action="store_true", help="leave out losses above the first step's"
    )
    parser.add_argument("--labels", help="leave out methods whose label begins so")
    asked = parser.parse_args()

    results = read_study(asked.folder).results
    start = max((run.record.losses[0] for run in results.runs if run.record.losses), default=0.0)

    def kept(run: Run) -> bool:
        if asked.labels is not None and run.label.startswith(asked.labels):
            return False
        value = score(run.record, "test")
        return not asked.worse_than_start or (value is not None and value < start)

    runs = tuple(run for run in results.runs if kept(run))
    table = magnitudes(find(replace(results, runs=runs), results.design.labels[0]))
    if table is None:
        parser.error(f"{len(runs)} runs are left: too few")
    for row in table.rows:
        cells = zip(table.headings, row, strict=True)
        print(*(f"{name}: {cell}" for name, cell in cells), sep="\n")


if __name__ == "__main__":
    main()
