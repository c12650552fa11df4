"""What the runs give, as a table and as a picture."""

from pathlib import Path
from typing import Any

from run import SHOWN

from loram.study.record import Record
from loram.study.report.numbers import interval, number
from loram.study.statistics import student
from loram.vision.images import draw_grid

METRICS = ("distance", "kernel", "loss")


def table(floors: dict[str, dict[str, float]], methods: dict[str, list[Record]]) -> str:
    """Markdown: floors first, then each method at its best rate, mean and Student's interval."""
    rows = [
        "| | lr | feature distance | kernel distance | held-out loss |",
        "|---|---|---|---|---|",
    ]
    for name, found in floors.items():
        cells = [number(found[metric]) if metric in found else "" for metric in METRICS]
        rows.append(f"| {name} | | {' | '.join(cells)} |")
    for method, records in methods.items():
        cells = [
            interval(student([record.test[metric] for record in records])) for metric in METRICS
        ]
        rows.append(f"| {method} | {records[0].lr:.1e} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def draw_grid_of(methods: dict[str, list[Record]], options: Any) -> None:
    """A row for each method and step: the same emoji of the test set, the first seed."""
    out: Path = options.out
    rows = [("old vendor", [out / f"old-{i}.png" for i in range(SHOWN)])]
    for method, records in methods.items():
        folder = out / "runs" / records[0].key[:16]
        for step in range(0, options.steps + 1, options.judge_every):
            files = [folder / f"step-{step:04d}-{i}.png" for i in range(SHOWN)]
            if step or method == next(iter(methods)):  # untrained, all methods draw the same
                rows.append((f"{method} {step}" if step else "step 0", files))
    rows.append(("new vendor", [out / f"new-{i}.png" for i in range(SHOWN)]))
    draw_grid(rows, out / "grid.png")
