"""What the benchmarks share: paired rounds in one process, medians, one table and one JSON."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

RUNS = Path("runs/bench")


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def rounds(
    works: Mapping[str, Callable[[], object]], count: int, *, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each work in each round; within a round they take turns, so drift is shared."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(warmup + count):
        for name, work in works.items():
            spent = seconds(work)
            if turn >= warmup:
                times[name].append(spent)
    return times


def ratio(times: Mapping[str, list[float]], top: str, bottom: str) -> dict[str, float]:
    """Of two works, round by round: median, smallest, largest."""
    pairs = [a / b for a, b in zip(times[top], times[bottom], strict=True)]
    return {"median": statistics.median(pairs), "min": min(pairs), "max": max(pairs)}


def report(name: str, title: str, rows: list[dict[str, object]]) -> None:
    """Print the rows as a table and keep them in runs/bench/NAME.json."""
    table = Table(title=title, title_justify="left")
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console().print(table)
    keep(name, rows)


def keep(name: str, rows: list[dict[str, object]]) -> None:
    """Write the rows to runs/bench/NAME.json, over what was there."""
    RUNS.mkdir(parents=True, exist_ok=True)
    (RUNS / f"{name}.json").write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
