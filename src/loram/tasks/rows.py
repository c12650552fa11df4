"""Rows of a data set, as they lie in a JSONL file or on the hub."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from loram.tasks.sources import DataError

__all__ = ["hub_splits", "read_rows"]


def read_rows(file: Path) -> Iterator[tuple[str, Any]]:
    """(where it stands, the parsed line) of every line that is not blank.

    Raises:
        DataError: the file can't be read, a line is no JSON, or there is none.
    """
    try:
        # Not splitlines: a text may hold a line separator of its own, such as U+2028.
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: expected a UTF-8 JSONL file ({error})") from error
    found = False
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        found = True
        where = f"{file}, line {number}"
        try:
            yield where, json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: expected a JSON object ({error})") from error
    if not found:
        raise DataError(f"{file}: expected one JSON object a line, the file has none")


def hub_splits(source: str, config: str | None) -> Mapping[str, Any]:
    """Splits of a data set on the hub, by name.

    Raises:
        DataError: the package for it is missing, or there is no such data set.
    """
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise DataError(
            f"{source!r} is not an existing file or folder; to read it as a data set from the hub, "
            "pip install 'loram[hub]'"
        ) from None
    try:
        splits: Any = datasets.load_dataset(source, config)
    except Exception as error:  # the hub client's errors have no common base
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{source!r} is not an existing path, and the hub gave no such data set ({first}). "
            "Name a folder with its files (--data), or a configuration (--data-config)"
        ) from error
    return splits
