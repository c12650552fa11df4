"""How well ν[W_LoRA] and the rate predict losses, without runs that ended worse than they began.

    python bench/magnitude_below.py runs/smollm2

The report's table, which takes all runs: there two whose magnitude no other method came to, at six
times the others' loss, are most of what is left to explain.
"""

import sys
from dataclasses import replace
from pathlib import Path

from loram.study.findings import find
from loram.study.report.read import read_study
from loram.study.report.wide import magnitudes
from loram.study.results import score


def main(folder: Path) -> None:
    results = read_study(folder).results
    start = max(run.record.losses[0] for run in results.runs if run.record.losses)
    scores = ((run, score(run.record, "test")) for run in results.runs)
    kept = tuple(run for run, value in scores if value is not None and value < start)
    table = magnitudes(find(replace(results, runs=kept), results.design.labels[0]))
    assert table is not None, "too few runs"
    for row in table.rows:
        print(
            *(f"{name}: {cell}" for name, cell in zip(table.headings, row, strict=True)), sep="\n"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
