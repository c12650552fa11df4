"""Files and frames as columns: `{name: values}`, whatever they were."""

import csv
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from loram.recommend.errors import RecommendError

__all__ = ["Table", "atomic_folder", "is_frame", "of_frame", "of_path"]

Table: TypeAlias = dict[str, list[Any]]


def of_path(path: Path) -> Table:
    """Columns of a CSV, TSV, RecBole atomic or Parquet file; a name's `:type` is dropped."""
    if path.suffix in _REFUSED:
        raise RecommendError(f"{path}: a pickle runs whatever is in it: {_UNPICKLE}")
    if path.suffix not in _READERS:
        raise RecommendError(f"{path}: expected one of {', '.join(_READERS)}, got {path.suffix!r}")
    try:
        return _READERS[path.suffix](path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecommendError(f"{path}: expected a readable UTF-8 file ({error})") from error


def _delimited(separator: str) -> Callable[[Path], Table]:
    def read(path: Path) -> Table:
        with path.open(encoding="utf-8-sig", newline="") as file:
            quoting = csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE
            rows = csv.reader(file, delimiter=separator, quoting=quoting)
            names = next(rows, None)
            if not names:
                raise RecommendError(f"{path}: expected a header and rows, the file is empty")
            body = [row for row in rows if row]
        for number, row in enumerate(body, start=2):
            if len(row) != len(names):
                raise RecommendError(
                    f"{path}, line {number}: expected {len(names)} fields as in the header, got "
                    f"{len(row)}; is the file whole, and its separator {separator!r}?"
                )
        columns = zip(*body, strict=True) if body else ((),) * len(names)
        return {
            name.split(":")[0].strip(): list(column)
            for name, column in zip(names, columns, strict=True)
        }

    return read


def _parquet(path: Path) -> Table:
    try:
        import polars
    except ImportError:
        raise RecommendError(
            f"{path}: Parquet needs polars: pip install 'loram[recommend]'"
        ) from None
    try:
        return of_frame(polars.read_parquet(path))
    except polars.exceptions.PolarsError as error:
        raise RecommendError(f"{path}: expected a whole Parquet file ({error})") from error


_READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": _delimited(","),
    ".tsv": _delimited("\t"),
    ".inter": _delimited("\t"),
    ".item": _delimited("\t"),
    ".user": _delimited("\t"),
    ".parquet": _parquet,
}
_REFUSED = (".pkl", ".pickle")
_UNPICKLE = "if you trust it, open it with pandas.read_pickle and pass the frame, or save Parquet"


def is_frame(source: Any) -> bool:
    """Whether it is a frame of pandas or polars (or anything else with columns and to_dict)."""
    return hasattr(source, "columns") and hasattr(source, "to_dict")


def of_frame(frame: Any) -> Table:
    """Columns of a frame of pandas or polars."""
    module = type(frame).__module__.partition(".")[0]
    table = frame.to_dict(as_series=False) if module == "polars" else frame.to_dict("list")
    return {str(name): list(values) for name, values in table.items()}


def atomic_folder(name: str) -> Path | None:
    """Folder of the data set that comes with RecBole's wheel; None if it isn't there.

    The wheel is looked into, not imported: it is often installed for its data alone.
    """
    if Path(name).name != name:
        return None
    spec = importlib.util.find_spec("recbole")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "dataset_example" / name
        if folder.is_dir():
            return folder
    return None
