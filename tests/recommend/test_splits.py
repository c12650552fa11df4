"""Splits, histories, TALLRec's samples, and the leaks that must be found."""

from dataclasses import replace

import numpy as np
import pytest
from made import made

from loram.recommend._tables import atomic_folder
from loram.recommend.errors import LeakError, RecommendError
from loram.recommend.floors import floors, shrunk_mean
from loram.recommend.interactions import UNKNOWN
from loram.recommend.metrics import auc
from loram.recommend.negatives import parts_with_negatives, with_clock, with_negatives
from loram.recommend.reading import read
from loram.recommend.samples import samples
from loram.recommend.splits import (
    SPLITS,
    Rows,
    check_disjoint,
    check_history,
    check_neighbours,
    global_temporal,
    leave_one_out,
    temporal_per_user,
)  # fmt: skip
from loram.recommend.tallrec import tallrec


@pytest.mark.parametrize("name", SPLITS)
def test_every_split_parts_all_rows(name: str) -> None:
    data = made()
    rows = SPLITS[name](data)
    check_disjoint(rows)
    assert sorted(np.concatenate(rows)) == list(range(len(data)))
    again = SPLITS[name](data)
    assert all((a == b).all() for a, b in zip(rows, again, strict=True))


def test_time_runs_from_train_to_test() -> None:
    data = made()
    time = data.times()
    rows = global_temporal(data)
    assert time[rows.train].max() < time[rows.valid].min()
    assert time[rows.valid].max() < time[rows.test].min()
    for split in (temporal_per_user, leave_one_out):
        rows = split(data)
        for user in range(len(data.users)):
            ends = [time[part[data.user[part] == user]] for part in rows]
            assert ends[0].max() < ends[1].min()
            assert ends[1].max() < ends[2].min()


def test_leave_one_out_leaves_short_users_in_train() -> None:
    data = made()
    short = data.take(np.r_[np.flatnonzero(data.user != 0), np.flatnonzero(data.user == 0)[:2]])
    rows = leave_one_out(short)
    assert (short.user[rows.test] != 0).all()
    assert len(rows.test) == len(data.users) - 1


def test_histories_are_what_came_before() -> None:
    data = made()
    rows = np.arange(len(data))
    chosen = samples(data, rows, length=5)
    check_history(data, chosen)
    time = data.times()
    for row in rows[:60]:
        before = [r for r in rows if data.user[r] == data.user[row] and time[r] < time[row]]
        expected = sorted(before, key=lambda r: time[r])[-5:]
        found = [r for r in chosen.history_row[row] if r != UNKNOWN]
        assert found == expected
        assert chosen.history[row].tolist() == [UNKNOWN] * (5 - len(expected)) + [
            *data.item[expected]
        ]


def test_leaks_fail_loudly() -> None:
    data = made()
    rows = temporal_per_user(data)
    train = samples(data, rows.train, length=5)
    check_history(data, train, held_out=rows.test)
    with pytest.raises(LeakError, match="train and test"):
        check_disjoint(Rows(rows.train, rows.valid, np.r_[rows.test, rows.train[:1]]))
    for what, seen in {"its target": train.row[7], "held-out": rows.test[0]}.items():
        bad = train.history_row.copy()
        bad[7, -1] = seen
        broken = replace(train, history_row=bad)
        late = replace(data, time=np.zeros(len(data))) if what == "held-out" else data
        with pytest.raises(LeakError):
            check_history(late, broken, held_out=rows.test)
    with pytest.raises(LeakError, match="2 held-out"):
        check_neighbours(np.r_[rows.train, rows.test[:2]], rows.test)
    check_neighbours(rows.train, rows.test)


def test_bad_splits_are_told() -> None:
    data = made()
    with pytest.raises(RecommendError, match="shares"):
        temporal_per_user(data, (0, 1, 1))
    with pytest.raises(RecommendError, match="too few"):
        leave_one_out(data.take(np.array([0, 1])))
    with pytest.raises(RecommendError, match="times"):
        global_temporal(replace(data, time=None))


def test_tallrec_is_windows_of_users_as_they_appear() -> None:
    data = made(users=6, each=8)
    parts = tallrec(data, length=3, sizes=(20, 5, 5))
    listed = []
    for user in dict.fromkeys(data.user.tolist()):
        own = [r for r in range(len(data)) if data.user[r] == user]
        own.sort(key=lambda r: data.times()[r])
        listed += [(own[i - 3 : i], own[i]) for i in range(3, len(own))]
    expected = listed[-30:]
    found = [
        (history.tolist(), int(row))
        for part in parts
        for history, row in zip(part.history_row, part.row, strict=True)
    ]
    assert found == expected
    with pytest.raises(RecommendError, match="at least 10000 windows"):
        tallrec(data)


@pytest.mark.skipif(atomic_folder("ml-100k") is None, reason="the recbole wheel is not installed")
def test_the_published_split_and_its_floors() -> None:
    parts = tallrec(read("ml-100k"))
    assert [len(p) for p in parts] == [8000, 1000, 1000]
    users = [set(p.user.tolist()) for p in parts]
    assert [len(u) for u in users] == [80, 14, 16]
    assert [len(users[a] & users[b]) for a, b in ((0, 1), (1, 2), (0, 2))] == [1, 1, 0]
    scores = floors(parts.train, parts.test)
    label = parts.test.label
    assert auc(label, scores["like share"]) == pytest.approx(0.726, abs=0.002)
    assert auc(label, scores["like share + item"]) == pytest.approx(0.763, abs=0.002)
    # Users of the test are not in train: their mean says nothing.
    assert auc(label, scores["user mean"]) == 0.5


def test_means_are_shrunk_and_the_unknown_gets_the_global_one() -> None:
    code, label = np.array([0, 0, 1, UNKNOWN]), np.array([1, 1, 0, 0.0])
    found = shrunk_mean(code, label, np.array([0, 1, 5, UNKNOWN]), shrinkage=2)
    np.testing.assert_allclose(found, [3 / 4, 1 / 3, 1 / 2, 1 / 2])


def test_floors_of_cold_starts_are_finite() -> None:
    data = made()
    rows = temporal_per_user(data)
    train, test = samples(data, rows.train), samples(data, rows.test)
    unknown = np.full(len(test), UNKNOWN)
    cold = replace(test, user=unknown, item=unknown, history=np.full((len(test), 4), UNKNOWN))
    scores = floors(train, cold)
    assert set(scores) == {"popularity", "user mean", "item mean", "user + item"}
    assert all(np.isfinite(s).all() and np.ptp(s) == 0 for s in scores.values())
    with pytest.raises(RecommendError, match="training rows"):
        floors(train.take(np.arange(0)), test)


def test_negatives_are_never_met_and_share_the_context() -> None:
    data = made()
    both = with_negatives(data, each=2, seed=3)
    n = len(data)
    assert both.labels().tolist() == [1.0] * n + [0.0] * 2 * n
    met = set(zip(data.user.tolist(), data.item.tolist(), strict=True))
    drawn = zip(both.user[n:].tolist(), both.item[n:].tolist(), strict=True)
    assert not met & set(drawn)
    np.testing.assert_array_equal(
        both.context["daypart"].codes[n:], data.context["daypart"].codes.repeat(2)
    )
    joined, rows = parts_with_negatives(data, temporal_per_user(data), each=(1, 0, 3))
    assert [joined.labels()[r].mean() for r in rows] == [0.5, 1.0, 0.25]
    with pytest.raises(RecommendError, match="met all"):
        with_negatives(made(items=20), each=1)


def test_the_clock_is_utc() -> None:
    data = replace(made(), time=np.full(600, 1_700_000_000.0))  # Tue 14 Nov 2023, 22:13 UTC
    context = with_clock(data).context
    assert {name: context[name].vocabulary[context[name].codes[0]] for name in ("hour", "weekday")}
    assert context["hour"].codes[0] == 22
    assert context["weekday"].vocabulary[context["weekday"].codes[0]] == "Tue"
