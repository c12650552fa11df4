"""Rows of a data set, as they lie in a JSONL file or on the hub."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from loram.tasks.errors import DataError

__all__ = ["Located", "hub_splits", "own_splits", "read_rows"]

Located = tuple[str, Any]
"""Where a row stands, for errors, and the row."""

_HELD_OUT_NAMES = ("test", "validation", "valid", "dev", "heldout", "eval")


def own_splits(
    source: str, config: str | None
) -> tuple[Iterable[Located], Iterable[Located] | None]:
    """Rows to train on and to judge by, of a JSONL file or folder, or a data set on the hub.

    A folder holds `train.jsonl` and `test.jsonl` (or validation, dev, heldout).

    Returns:
        train, held out; the second is None for a single file or a data set with only a train split.

    Raises:
        DataError: nothing there, no train split, or a malformed file; the last while reading.
    """
    path = Path(source)
    if path.is_file():
        return read_rows(path), None
    if path.exists():
        files = {file.stem: file for file in sorted(path.glob("*.jsonl"))}
        if "train" not in files:
            raise DataError(
                f"{path}: expected train.jsonl (and test.jsonl or validation.jsonl), found "
                f"{sorted(files) or 'no .jsonl file'}"
            )
        file = next((files[name] for name in _HELD_OUT_NAMES if name in files), None)
        return read_rows(files["train"]), None if file is None else read_rows(file)
    splits = hub_splits(source, config)
    if "train" not in splits:
        raise DataError(f"{source}: expected a train split, got {sorted(splits)}")
    name = next((name for name in _HELD_OUT_NAMES if name in splits), None)
    held_out = None if name is None else _of_hub(splits[name], source)
    return _of_hub(splits["train"], source), held_out


def _of_hub(rows: Iterable[Any], source: str) -> Iterator[Located]:
    for number, row in enumerate(rows, start=1):
        yield f"{source}, row {number}", row


def read_rows(file: Path) -> Iterator[Located]:
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
