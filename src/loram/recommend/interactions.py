"""`Interactions`: who met what, when, how it was liked, and in which context.

Users and items are codes into the vocabularies `users` and `items`; `UNKNOWN` (−1) stands for one
that is not there, and every encoder of this room says what it does with it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loram.recommend.errors import RecommendError

__all__ = ["UNKNOWN", "Column", "Floats", "Interactions", "Ints", "encode"]

UNKNOWN = -1
Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


class Column(NamedTuple):
    """A categorical column: codes, and what they stand for; `UNKNOWN` where the value is missing.

    Attributes:
        codes: one for each row (or user, or item), int64.
        vocabulary: text of each code.
    """

    codes: Ints
    vocabulary: tuple[str, ...]


def encode(values: Iterable[Any]) -> Column:
    """Codes in order of first appearance; None, NaN and empty text are `UNKNOWN`."""
    known: dict[str, int] = {}
    texts = (_text(value) for value in values)
    codes = [UNKNOWN if t is None else known.setdefault(t, len(known)) for t in texts]
    return Column(np.asarray(codes, dtype=np.int64), tuple(known))


def _text(value: Any) -> str | None:
    if value is None or value != value:
        return None
    return str(value).strip() or None


@dataclass(frozen=True, slots=True, eq=False)
class Interactions:
    """Rows in the order of the file.

    Attributes:
        name: of the source.
        user: (n,) codes into `users`.
        item: (n,) codes into `items`.
        users: ids as the source writes them.
        items: likewise.
        rating: (n,) as given, or None.
        label: (n,) of 0 and 1, or None; `liked` makes it from ratings.
        time: (n,) seconds since 1970 or any other number that grows, or None.
        titles: of each item; None where it is missing. Empty if the source has none.
        context: explicit context of each row, by name.
        user_features: of each user, by name.
        item_features: of each item, by name.
        history: items of each row's history, oldest first, where the source brings it.
    """

    name: str
    user: Ints
    item: Ints
    users: tuple[str, ...]
    items: tuple[str, ...]
    rating: Floats | None = None
    label: Floats | None = None
    time: Floats | None = None
    titles: tuple[str | None, ...] = ()
    context: Mapping[str, Column] = field(default_factory=dict[str, Column])
    user_features: Mapping[str, Column] = field(default_factory=dict[str, Column])
    item_features: Mapping[str, Column] = field(default_factory=dict[str, Column])
    history: tuple[Ints, ...] | None = None

    def __post_init__(self) -> None:
        n = len(self.user)
        if n == 0:
            raise RecommendError(f"{self.name}: expected at least one interaction, got none")
        columns = {"item": self.item, "rating": self.rating, "label": self.label}
        columns |= {"time": self.time, "history": self.history}
        columns |= {name: column.codes for name, column in self.context.items()}
        wrong = [f"{k} has {len(v)}" for k, v in columns.items() if v is not None and len(v) != n]
        if wrong:
            raise RecommendError(f"{self.name}: expected {n} rows in all columns; {wrong}")
        if self.titles and len(self.titles) != len(self.items):
            raise RecommendError(
                f"{self.name}: expected a title (or None) for each of {len(self.items)} items, "
                f"got {len(self.titles)}"
            )

    def __len__(self) -> int:
        return len(self.user)

    def columns(self) -> list[Ints | Floats]:
        """Every column of the rows, (n,) each: rows that agree in all are the same."""
        found = [self.user, self.item, *(c.codes for c in self.context.values())]
        found += [c for c in (self.rating, self.label, self.time) if c is not None]
        if self.history is not None:
            known: dict[bytes, int] = {}
            codes = [known.setdefault(h.tobytes(), len(known)) for h in self.history]
            found.append(np.asarray(codes, dtype=np.int64))
        return found

    def take(self, rows: Ints) -> "Interactions":
        """Some of the rows, in the order given; vocabularies stay."""
        return replace(
            self,
            user=self.user[rows],
            item=self.item[rows],
            rating=None if self.rating is None else self.rating[rows],
            label=None if self.label is None else self.label[rows],
            time=None if self.time is None else self.time[rows],
            context={k: Column(c.codes[rows], c.vocabulary) for k, c in self.context.items()},
            history=None if self.history is None else tuple(self.history[r] for r in rows),
        )

    def liked(self, above: float = 3.0) -> "Interactions":
        """The same with label = rating > `above`.

        Raises:
            RecommendError: there is no rating.
        """
        if self.rating is None:
            raise RecommendError(f"{self.name}: expected ratings to make labels of, it has none")
        return replace(self, label=(self.rating > above).astype(np.float64))

    def labels(self) -> Floats:
        """The labels (n,), of 0 and 1.

        Raises:
            RecommendError: none are there, or one is neither 0 nor 1.
        """
        if self.label is None:
            raise RecommendError(
                f"{self.name}: expected labels of 0 and 1, it has none; make them of ratings "
                "(`liked`, on the command line --like-above) or sample negatives"
            )
        odd = np.flatnonzero((self.label != 0) & (self.label != 1))
        if len(odd):
            raise RecommendError(
                f"{self.name}: expected labels of 0 and 1, got {self.label[odd[0]]:g} in row "
                f"{odd[0] + 1} and {len(odd) - 1} more; read the column as a rating and say what "
                "counts as liked"
            )
        return self.label

    def times(self) -> Floats:
        """The times (n,).

        Raises:
            RecommendError: none are there.
        """
        if self.time is None:
            raise RecommendError(
                f"{self.name}: expected times, it has none; name their column, or split at random"
            )
        return self.time

    def chronological(self) -> Ints:
        """Row numbers by user, then time, ties in file order: (n,)."""
        return np.lexsort((self.times(), self.user)).astype(np.int64)

    def codes(self, *, users: Iterable[str] = (), items: Iterable[str] = ()) -> tuple[Ints, Ints]:
        """Codes of ids; `UNKNOWN` for those that are not in the vocabularies."""
        user = {name: code for code, name in enumerate(self.users)}
        item = {name: code for code, name in enumerate(self.items)}
        return (
            np.asarray([user.get(str(u), UNKNOWN) for u in users], dtype=np.int64),
            np.asarray([item.get(str(i), UNKNOWN) for i in items], dtype=np.int64),
        )

    def vocabulary(self) -> str:
        """A fingerprint of which user and item each code stands for."""
        text = json.dumps([self.users, self.items], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def titled(self) -> tuple[str, ...]:
        """Title of every item; where one has none, `item` and its id."""
        return tuple(self.title(item) for item in range(len(self.items)))

    def title(self, item: int) -> str:
        """Title of an item; where it has none, `item` and its id."""
        known = self.titles[item] if self.titles and 0 <= item < len(self.titles) else None
        if known is not None and known.strip():
            return known
        return f"item {self.items[item]}" if 0 <= item < len(self.items) else "an unknown item"
