"""Rows of a benchmark: from JSON or JSONL files, or from the hub."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from loram.tasks.errors import DataError
from loram.tasks.rows import hub_splits
from loram.tasks.rows import read_rows as read_lines
from loram.tasks.sources import as_example
from loram.tasks.task import Example

__all__ = ["Row", "answered", "as_examples", "find", "need", "read_hub", "read_pair", "read_rows"]

Row = dict[str, Any]


def read_rows(file: Path) -> list[Row]:
    """The objects of a JSONL file, or of a JSON file that holds a list of them.

    Raises:
        DataError: not such a file, or none in it; names the line.
    """
    found = _listed(file) if file.suffix == ".json" else [*read_lines(file)]
    for where, row in found:
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected an object, got {type(row).__name__}")
    return [row for _, row in found]


def _listed(file: Path) -> list[tuple[str, Any]]:
    """As `read_lines`, of a file that may hold one list instead."""
    try:
        rows: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return [*read_lines(file)]
    if not isinstance(rows, list):
        rows = [rows]
    if not rows:
        raise DataError(f"{file}: expected JSON objects, the file has none")
    listed = cast(list[Any], rows)
    return [(f"{file}, row {number}", row) for number, row in enumerate(listed, start=1)]


def find(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of `names` that is a file in `folder`, as .jsonl or .json."""
    files = (folder / f"{name}{end}" for name in names for end in (".jsonl", ".json"))
    return next((file for file in files if file.is_file()), None)


def read_pair(folder: Path, *names: str) -> tuple[list[Row], list[Row]]:
    """The rows of a folder's training file and of its test file.

    Args:
        folder: that holds `train` and `test`, .jsonl or .json.
        names: of the benchmark, for files `NAME_train` and `NAME_test`, looked for first.

    Raises:
        DataError: one is missing.
    """
    found: list[Path] = []
    for split in ("train", "test"):
        wanted = [*(f"{name}_{split}" for name in names), split]
        file = find(folder, wanted)
        if file is None:
            there = sorted(each.name for each in folder.glob("*.json*")) if folder.is_dir() else []
            raise DataError(
                f"{folder}: expected a folder with {' or '.join(f'{w}.jsonl' for w in wanted)}, "
                f"found {there or 'none'}"
            )
        found.append(file)
    return read_rows(found[0]), read_rows(found[1])


def as_examples(rows: Sequence[Row], where: str) -> list[Example]:
    """Rows with any of the fields that `loram.tasks.sources` knows, as questions and answers.

    Raises:
        DataError: a row has none of them; says which.
    """
    return [as_example(row, f"{where}, row {number}") for number, row in enumerate(rows, start=1)]


def answered(
    examples: list[Example], read: Callable[[str], str | None], form: str, where: str
) -> list[Example]:
    """The same examples, if the result of every answer can be read.

    Raises:
        DataError: one can't, so that nothing could be right.
    """
    for number, example in enumerate(examples, start=1):
        if read(example.answer) is None:
            raise DataError(
                f"{where}, row {number}: expected an answer with {form}, got "
                f"{example.answer[-60:]!r}"
            )
    return examples


def read_hub(source: str, config: str | None, split: str) -> list[Row]:
    """The rows of one split of a data set on the hub.

    Raises:
        DataError: no package `datasets`, or no such data set, configuration or split.
    """
    splits = hub_splits(source, config)
    if split not in splits:
        raise DataError(f"{source}: expected a split {split!r}, got {sorted(splits)}")
    return [dict(row) for row in splits[split]]


def need(row: Row, name: str, kind: type | tuple[type, ...], where: str) -> Any:
    """A field of a row.

    Raises:
        DataError: it is missing or of another kind.
    """
    value = row.get(name)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        wanted = kind.__name__ if isinstance(kind, type) else " or ".join(k.__name__ for k in kind)
        got = type(value).__name__ if name in row else f"fields {sorted(row)}"
        raise DataError(f"{where}: expected {wanted} in {name!r}, got {got}")
    return value
