"""From interactions to cases: splits, shots, candidates, and what an encoder may learn from."""

import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from loram.recommend.errors import RecommendError
from loram.recommend.interactions import UNKNOWN, Interactions, Ints
from loram.recommend.llm.case import Case
from loram.recommend.llm.settings import DataOf
from loram.recommend.reading import read
from loram.recommend.samples import Samples, samples
from loram.recommend.splits import SPLITS, Rows, check_disjoint, check_history, check_neighbours
from loram.recommend.tallrec import tallrec

__all__ = ["Asked", "Part", "cases_of", "load"]

_LONGER = 10  # how many times the history is read, to find so many liked ones


@dataclass(frozen=True, slots=True)
class Part:
    """Samples, and the same as cases."""

    samples: Samples
    cases: list[Case]


@dataclass(frozen=True, slots=True)
class Asked:
    """What there is to learn and to judge.

    Attributes:
        data: all interactions.
        train: drawn shots.
        valid: to stop early by.
        test: to report.
        learnt: rows of the interactions that encoders and floors learn from: all that the split
            gives to train, also where only a few shots are drawn.
        known: the samples of the whole train part.
        chosen_by: the samples of the whole validation part, to fit encoders by.
    """

    data: Interactions
    train: Part
    valid: Part
    test: Part
    learnt: Ints
    known: Samples
    chosen_by: Samples

    @property
    def all(self) -> list[Case]:
        """Every case, in the order of `Case.row`."""
        return [*self.train.cases, *self.valid.cases, *self.test.cases]


def load(settings: DataOf, *, seed: int) -> Asked:
    """Read, split, draw, and check that nothing leaks.

    Args:
        settings: of the data.
        seed: of the shots. Valid, test and candidates are the same for every seed.

    Raises:
        RecommendError: data that can't be used, or too few.
        LeakError: the split leaks.
    """
    data = read(settings.source, settings.columns)
    if settings.like_above is not None or (data.label is None and data.rating is not None):
        data = data.liked(3.0 if settings.like_above is None else settings.like_above)
    elif data.label is None and settings.candidates:  # what came next is asked, liked or not
        data = replace(data, label=np.ones(len(data)))
    data.labels()
    rows = None
    length = settings.history * (_LONGER if settings.liked_only else 1)
    if settings.split == "tallrec":
        parts = tuple(tallrec(data, length=length, sizes=settings.sizes))
        learnt = np.unique(np.concatenate([parts[0].row, parts[0].history_row.ravel()]))
        learnt = learnt[learnt != UNKNOWN]
    else:
        rows = _sequences(data, settings.shares) if settings.split == "sequences" else None
        rows = rows or _split(data, settings)
        parts = tuple(samples(data, part, length=length) for part in rows)
        held = np.concatenate([rows.valid, rows.test])
        # Of sequences, all but what is asked at the end is there to learn from.
        everything = np.arange(len(data))
        learnt = np.setdiff1d(everything, held) if settings.split == "sequences" else rows.train
    if settings.candidates:
        parts = tuple(replace(part, label=np.ones(len(part))) for part in parts)
    judged = np.concatenate([parts[1].row, parts[2].row])
    for part, held_out in zip(parts, (judged, parts[2].row, ()), strict=True):
        check_history(data, part, held_out)
    check_neighbours(learnt, judged)
    wanted = (settings.shots, settings.valid, settings.test)
    seeds = (seed, 0, 0)
    drawn = [_draw(p, n, s) for p, n, s in zip(parts, wanted, seeds, strict=True)]
    made: list[Part] = []
    first = 0
    for part in drawn:
        made.append(Part(part, cases_of(data, part, settings, first=first)))
        first += len(part)
    if not made[0].cases or not made[2].cases:
        raise RecommendError(f"{data.name}: nothing is left to learn from or to judge")
    train, valid, test = made
    return Asked(data, train, valid, test, learnt, parts[0], parts[1])


def cases_of(data: Interactions, part: Samples, settings: DataOf, *, first: int = 0) -> list[Case]:
    """Samples as cases.

    Args:
        data: the interactions.
        part: of them.
        settings: history, liked_only and candidates.
        first: row of the vectors of the first case.
    """
    met = _met(data) if settings.candidates else {}
    made: list[Case] = []
    for i in range(len(part)):
        items, liked = part.history[i], part.history_label[i] > 0
        keep = (items != UNKNOWN) & (liked | (not settings.liked_only))
        history = items[keep][-settings.history :]
        target, user = int(part.item[i]), int(part.user[i])
        candidates: tuple[int, ...] = ()
        if settings.candidates:
            without = met.get(user, set()) | {target}
            candidates = _candidates(data, target, without, settings.candidates, int(part.row[i]))
        made.append(
            Case(
                user=user,
                history=tuple(history.tolist()),
                liked=tuple(liked[keep][-settings.history :].tolist()),
                target=target,
                label=int(part.label[i]),
                candidates=candidates,
                row=first + i,
            )
        )
    return made


def _split(data: Interactions, settings: DataOf) -> Rows:
    split: Any = SPLITS[settings.split]
    takes_shares = settings.split != "leave-one-out"
    rows = split(data, settings.shares) if takes_shares else split(data)
    check_disjoint(rows)
    return rows


def _sequences(data: Interactions, shares: tuple[float, float, float]) -> Rows:
    """LLaRA's and iLoRA's: one sequence a user, the last item its target, cut by when it ended."""
    order = data.chronological()
    user = data.user[order]
    last = order[np.r_[user[1:] != user[:-1], True]]
    last = last[np.lexsort((last, data.times()[last]))]
    share = np.cumsum(shares) / sum(shares)
    ends = [int(np.floor(len(last) * s + 1e-9)) for s in share[:2]]
    rows = Rows(*np.split(last, ends))
    if not len(rows.train) or not len(rows.test):
        raise RecommendError(
            f"{data.name}: {len(last)} users are too few for {shares} of sequences"
        )
    return rows


def _draw(part: Samples, number: int | None, seed: int) -> Samples:
    """So many at random, in their order; fewer if there are not so many."""
    if number is None or number >= len(part):
        return part
    drawn = sorted(random.Random(f"draw {seed}").sample(range(len(part)), number))
    return part.take(np.asarray(drawn, dtype=np.int64))


def _met(data: Interactions) -> dict[int, set[int]]:
    met: dict[int, set[int]] = {}
    for user, item in zip(data.user.tolist(), data.item.tolist(), strict=True):
        met.setdefault(user, set()).add(item)
    return met


def _candidates(
    data: Interactions, target: int, without: set[int], number: int, row: int
) -> tuple[int, ...]:
    """The target among items the user never met; the same for the same row, whatever the seed."""
    free = [item for item in range(len(data.items)) if item not in without]
    if len(free) < number - 1:
        raise RecommendError(
            f"{data.name}: expected {number - 1} items that a user never met, got {len(free)}: ask "
            "for fewer candidates"
        )
    draw = random.Random(f"candidates {row}")
    chosen = [*draw.sample(free, number - 1), target]
    draw.shuffle(chosen)
    return tuple(chosen)
