"""Cutting interactions into train, valid and test, and checks that nothing leaks between them."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

import numpy as np

from loram.recommend.errors import LeakError, RecommendError
from loram.recommend.interactions import UNKNOWN, Interactions, Ints
from loram.recommend.samples import Samples

__all__ = [
    "SPLITS",
    "Rows",
    "Shares",
    "at_random",
    "check_apart",
    "check_disjoint",
    "check_history",
    "check_neighbours",
    "global_temporal",
    "leave_one_out",
    "temporal_per_user",
]

Shares: TypeAlias = tuple[float, float, float]


class Rows(NamedTuple):
    """Row numbers of each part, int64."""

    train: Ints
    valid: Ints
    test: Ints


def temporal_per_user(data: Interactions, shares: Shares = (0.8, 0.1, 0.1)) -> Rows:
    """Each user's first, middle and last interactions.

    A user with few rows keeps them in train: valid and test get the floor of their shares.
    """
    share = _checked(shares)
    order = data.chronological()
    nth, count = _places(data.user[order])
    test = np.floor(count * share[2] + 1e-9)
    valid = np.floor(count * share[1] + 1e-9)
    return _cut(data, order, nth >= count - test, nth >= count - test - valid)


def global_temporal(data: Interactions, shares: Shares = (0.8, 0.1, 0.1)) -> Rows:
    """Two moments that part all interactions: nothing is learnt from after what is judged.

    Rows at a moment stay together, in the earlier part.
    """
    share, time = _checked(shares), data.times()
    ordered = np.sort(time)
    n = len(data)
    ends = [max(round(n * s) - 1, 0) for s in (share[0], share[0] + share[1])]
    first, second = ordered[ends[0]], ordered[ends[1]]
    return _cut(data, np.argsort(time, kind="stable"), time > second, time > first, by_row=True)


def leave_one_out(data: Interactions) -> Rows:
    """Each user's last interaction is test, the one before valid; fewer than three: all train."""
    order = data.chronological()
    nth, count = _places(data.user[order])
    enough = count >= 3
    return _cut(data, order, enough & (nth == count - 1), enough & (nth >= count - 2))


def at_random(data: Interactions, shares: Shares = (0.7, 0.2, 0.1), *, seed: int = 0) -> Rows:
    """Rows cut at random: the public benchmarks' split of click data. Times are not respected."""
    share = _checked(shares)
    order = np.random.default_rng(seed).permutation(len(data))
    ends = [round(len(data) * s) for s in (share[0], share[0] + share[1])]
    rows = Rows(*(np.sort(part) for part in np.split(order, ends)))
    return _filled(data, rows)


SPLITS: dict[str, Callable[[Interactions], Rows]] = {
    "temporal": temporal_per_user,
    "global": global_temporal,
    "leave-one-out": leave_one_out,
    "random": at_random,
}


def check_disjoint(rows: Rows) -> None:
    """That no row is in two parts.

    Raises:
        LeakError: one is.
    """
    for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        shared = np.intersect1d(getattr(rows, one), getattr(rows, other))
        if len(shared):
            raise LeakError(f"row {shared[0]} and {len(shared) - 1} more are in {one} and {other}")


def check_apart(data: Interactions, rows: Rows) -> None:
    """That no part has a row that is the same, in every column, as one of another part.

    Raises:
        LeakError: one has, as files that overlap do.
    """
    columns = data.columns()
    part = np.full(len(data), UNKNOWN)
    for number, which in enumerate(rows):
        part[which] = number
    order = np.lexsort([part, *columns])
    same = np.logical_and.reduce([c[order][1:] == c[order][:-1] for c in columns])
    apart = (part[order][1:] != part[order][:-1]) & (part[order][:-1] != UNKNOWN)
    found = np.flatnonzero(same & apart)
    if len(found):
        one, other = order[found[0]], order[found[0] + 1]
        names = Rows._fields
        raise LeakError(
            f"{data.name}: {len(found)} rows stand in two parts: {names[part[one]]} and "
            f"{names[part[other]]} both have user {data.users[data.user[one]]}, item "
            f"{data.items[data.item[one]]}"
        )


def check_history(data: Interactions, chosen: Samples, held_out: Iterable[int] = ()) -> None:
    """That every history comes before its target, and holds no held-out interaction.

    Args:
        data: the interactions.
        chosen: with their histories.
        held_out: rows that must not be seen, such as the test rows where `chosen` is trained on.

    Raises:
        LeakError: a history has its own target, a later interaction, another user's, or a held-out
            one.
    """
    if data.history is not None:
        _check_brought(data, chosen)
    sample, place = np.nonzero(chosen.history_row != UNKNOWN)
    seen = chosen.history_row[sample, place]
    if not len(seen):
        return
    target = chosen.row[sample]
    known = target != UNKNOWN
    time = data.times()
    late = known & ((time[seen] > time[target]) | ((time[seen] == time[target]) & (seen >= target)))
    problems = {
        "its target or something later": late,
        "another user's interaction": data.user[seen] != chosen.user[sample],
        "a held-out interaction": np.isin(seen, np.asarray(list(held_out), dtype=np.int64)),
    }
    for what, found in problems.items():
        if found.any():
            where = np.flatnonzero(found)[0]
            raise LeakError(
                f"the history of sample {sample[where]} (row {target[where]}) holds {what}: row "
                f"{seen[where]}; {int(found.sum())} in all"
            )


def _check_brought(data: Interactions, chosen: Samples) -> None:
    """Histories of the source have no rows to look at; that all hold their target is no chance."""
    there = (chosen.history != UNKNOWN).any(1)
    own = (chosen.history == chosen.item[:, None]).any(1)
    if there.sum() > 1 and own[there].all():
        raise LeakError(
            f"{data.name}: the history of each of {int(there.sum())} rows holds its own target: "
            "expected what came before it"
        )


def check_neighbours(used: Ints, held_out: Ints) -> None:
    """That neighbour lists (the items of a user, the users of an item) are made of train alone.

    Args:
        used: rows that the lists are made of.
        held_out: rows of valid and test.

    Raises:
        LeakError: they share one.
    """
    shared = np.intersect1d(used, held_out)
    if len(shared):
        raise LeakError(
            f"neighbour lists are made of {len(shared)} held-out interactions, such as row "
            f"{shared[0]}: make them of the training rows"
        )


def _checked(shares: Shares) -> Shares:
    if len(shares) != 3 or min(shares) < 0 or sum(shares) <= 0 or shares[0] == 0:
        raise RecommendError(f"expected shares of train, valid and test, got {shares}")
    total = sum(shares)
    return shares[0] / total, shares[1] / total, shares[2] / total


def _places(user: Ints) -> tuple[Ints, Ints]:
    """Of rows grouped by user: which of the user's each is, and how many the user has."""
    _, first, inverse, count = np.unique(
        user, return_index=True, return_inverse=True, return_counts=True
    )
    return np.arange(len(user)) - first[inverse], count[inverse]


def _cut(
    data: Interactions,
    order: Ints,
    test: np.ndarray,
    later: np.ndarray,
    *,
    by_row: bool = False,
) -> Rows:
    """Rows in `order`; `test` and `later` (valid or test) are masks of places, or of rows."""
    if by_row:
        test, later = test[order], later[order]
    return _filled(data, Rows(order[~later], order[later & ~test], order[test]))


def _filled(data: Interactions, rows: Rows) -> Rows:
    sizes = {name: len(part) for name, part in rows._asdict().items()}
    if not sizes["train"] or not sizes["test"]:
        raise RecommendError(
            f"{data.name}: {len(data)} interactions leave {sizes}: too few for this split"
        )
    return rows
