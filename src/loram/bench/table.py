"""A measurement's result: rows beside their floors, as a table on the terminal and as JSON."""

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from loram.files import write_text

__all__ = ["RUNS", "Measured", "Row", "keep", "machine", "report", "show"]

RUNS = Path("runs/bench")

Row: TypeAlias = dict[str, object]
"""By column: text, number, or None for nothing to say. Rows of a table have the same columns."""


class Measured(NamedTuple):
    """One table.

    Attributes:
        name: of its JSON file.
        title: what was measured, on what, how often.
        rows: the numbers.
        note: what is to be known to read them.
        files: pictures and the like that were written beside it.
    """

    name: str
    title: str
    rows: Sequence[Row]
    note: str = ""
    files: tuple[Path, ...] = ()


def machine() -> dict[str, object]:
    """Where it was measured: what changes times. The load is of the minute before."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": load,
        "processor": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }


def show(measured: Measured, console: Console) -> None:
    """Print it; no cell is wrapped, what is too wide for the terminal runs on."""
    columns = list(measured.rows[0])
    console.print(measured.title, style="bold", highlight=False, markup=False, soft_wrap=True)
    table = Table(*map(escape, columns), box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    cells = [[_cell(row[column]) for column in columns] for row in measured.rows]
    for line in cells:
        table.add_row(*map(escape, line))
    wanted = Measurement.get(console, console.options.update(width=10_000), table).maximum
    wide = Console(file=console.file, width=max(wanted, console.width))
    wide.print(table, highlight=False)
    if measured.note:
        console.print(measured.note, highlight=False, markup=False, soft_wrap=True)


def keep(name: str, rows: Sequence[Row], folder: Path = RUNS, **more: object) -> Path:
    """Write the rows to FOLDER/NAME.json, over what was there."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    value = {"name": name, **more, "machine": machine(), "rows": rows}
    write_text(file, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    return file


def report(name: str, title: str, rows: list[Row]) -> None:
    """Print the rows as a table and keep them in runs/bench/NAME.json."""
    show(Measured(name, title, rows), Console())
    keep(name, rows, title=title)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
