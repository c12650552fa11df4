"""`Samples`: targets to judge or learn, each with the history that was known before it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from loram.recommend.errors import RecommendError
from loram.recommend.interactions import UNKNOWN, Floats, Interactions, Ints

__all__ = ["Samples", "samples"]


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Targets, padded on the left: the newest of a history is its last column.

    Attributes:
        user: (n,) codes.
        item: (n,) codes of the targets.
        label: (n,) 0 or 1.
        row: (n,) row of the interactions each target is, `UNKNOWN` for a sampled negative.
        history: (n, length) items, oldest first, `UNKNOWN` where there are fewer.
        history_label: (n, length) their labels, 0 where there is none.
        history_row: (n, length) their rows, `UNKNOWN` where the source brought the history.
        context: codes (n,) of the explicit context, by name.
    """

    user: Ints
    item: Ints
    label: Floats
    row: Ints
    history: Ints
    history_label: Floats
    history_row: Ints
    context: Mapping[str, Ints] = field(default_factory=dict[str, Ints])

    def __len__(self) -> int:
        return len(self.user)

    def take(self, chosen: Ints) -> "Samples":
        """Some of them, in the order given."""
        return Samples(
            self.user[chosen],
            self.item[chosen],
            self.label[chosen],
            self.row[chosen],
            self.history[chosen],
            self.history_label[chosen],
            self.history_row[chosen],
            {name: codes[chosen] for name, codes in self.context.items()},
        )


def samples(
    data: Interactions, rows: Ints, *, length: int = 10, among: Ints | None = None
) -> Samples:
    """Rows as targets; the history is the user's `length` interactions before each.

    Before means earlier in time, and of equal times earlier in the file. Where the source brings
    histories they are taken as they are, every item of them as liked (CoLLM's format). Interactions
    without labels count as liked.

    Args:
        data: all interactions; a history may reach back into the rows of an earlier split.
        rows: (n,) the targets.
        length: of the histories; 0 for none.
        among: rows that a history may hold, where some must not be seen; all by default.

    Raises:
        RecommendError: no times and no histories in the source while `length` > 0; labels that are
            not 0 and 1.
    """
    if length < 0:
        raise RecommendError(f"expected a history length of 0 or more, got {length}")
    label = np.ones(len(data)) if data.label is None else data.labels()
    history_row = np.full((len(rows), length), UNKNOWN, dtype=np.int64)
    if data.history is not None:
        history = np.full((len(rows), length), UNKNOWN, dtype=np.int64)
        for place, row in enumerate(rows):
            last = data.history[row][-length:] if length else data.history[row][:0]
            history[place, length - len(last) :] = last
        history_label = (history != UNKNOWN).astype(np.float64)
    else:
        if length:
            history_row = _before(data, rows, length, among)
        there = history_row != UNKNOWN
        history = np.where(there, data.item[history_row], UNKNOWN)
        history_label = np.where(there, label[history_row], 0.0)
    context = {name: column.codes[rows] for name, column in data.context.items()}
    return Samples(
        *(data.user[rows], data.item[rows], label[rows], rows),
        *(history, history_label, history_row),
        context,
    )


def _before(data: Interactions, rows: Ints, length: int, among: Ints | None) -> Ints:
    """Rows (n, length) of the user's interactions just before each."""
    order = data.chronological()
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    allowed = np.arange(len(order)) if among is None else np.sort(place[among])
    user = data.user[order[allowed]]
    first = np.searchsorted(user, data.user[rows])  # (n,) where the user's block begins
    end = np.searchsorted(allowed, place[rows])  # (n,) past the last one before
    at = end[:, None] + np.arange(-length, 0)  # (rows, length)
    inside = at >= first[:, None]
    if not len(allowed):
        return np.full((len(rows), length), UNKNOWN, dtype=np.int64)
    return np.where(inside, order[allowed[np.maximum(at, 0)]], UNKNOWN)
