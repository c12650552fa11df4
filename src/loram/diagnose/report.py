"""What a diagnosis shows: a table for the terminal, tidy tables and pictures for a folder."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from loram.diagnose.errors import DiagnoseError

__all__ = ["Cell", "Report", "Table", "write"]

Cell = str | int | float | None
"""None is empty in a file and a dash on the terminal."""


class Table(NamedTuple):
    """Headings, and rows of as many cells."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]


@dataclass(frozen=True, slots=True)
class Report:
    """A diagnosis, ready to be shown.

    Attributes:
        title: what was diagnosed, in one line.
        summary: for the terminal.
        tables: tidy data by file name, without `.csv`.
        advice: one sentence a problem.
        draw: writes pictures into a folder and returns them; needs matplotlib.
    """

    title: str
    summary: Table
    tables: Mapping[str, Table]
    advice: tuple[str, ...]
    draw: Callable[[Path], list[Path]]


def write(report: Report, folder: Path) -> list[Path]:
    """Write the tables as CSV and the pictures as PNG and SVG; without matplotlib, the tables only.

    Raises:
        DiagnoseError: the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = [_csv(folder / f"{name}.csv", table) for name, table in report.tables.items()]
        if find_spec("matplotlib") is not None:
            written += report.draw(folder)
    except OSError as error:
        raise DiagnoseError(f"can't write into {folder} ({error}): name another folder") from error
    return written


def _csv(file: Path, table: Table) -> Path:
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(table.headings)
        writer.writerows(table.rows)
    return file
