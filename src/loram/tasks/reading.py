"""Rows of a benchmark: from JSON or JSONL files, or from the hub."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from loram.tasks.sources import DataError, as_example
from loram.tasks.task import Example

__all__ = ["Row", "answered", "as_examples", "find", "need", "read_hub", "read_pair", "read_rows"]

Row = dict[str, Any]


def read_rows(file: Path) -> list[Row]:
    """The objects of a JSONL file, or of a JSON file that holds a list of them.

    Raises:
        DataError: not such a file, or none in it; names the line.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: expected a UTF-8 file of JSON objects ({error})") from error
    rows: list[Any] = []
    if file.suffix == ".json" and text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{file}: expected a list of JSON objects ({error})") from error
    else:
        # Not splitlines: a text may hold a line separator of its own, such as U+2028.
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except json.JSONDecodeError as error:
                    raise DataError(
                        f"{file}, line {number}: expected a JSON object ({error})"
                    ) from error
    if not rows:
        raise DataError(f"{file}: expected JSON objects, the file has none")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{file}, row {number}: expected an object, got {type(row).__name__}")
    return cast(list[Row], rows)


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
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise DataError(
            f"{source!r} is not an existing file or folder; to read it as a data set from the hub, "
            "pip install 'loram[hub]'"
        ) from None
    try:
        rows: Any = datasets.load_dataset(source, config, split=split)
    except Exception as error:  # the hub client's errors have no common base
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{source!r} is not an existing path, and the hub gave no split {split!r} of such a "
            f"data set, configuration {config!r} ({first})"
        ) from error
    return [dict(row) for row in rows]


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
