"""AUC, UAUC, log-loss and the ranking metrics against scikit-learn and brute force."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loram.recommend.errors import RecommendError
from loram.recommend.intervals import bootstrap, judge, mean_interval
from loram.recommend.metrics import SortedScores, auc, log_loss, uauc
from loram.recommend.ranking import of_candidates, of_groups, of_list

lists = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=6).filter(
    lambda rows: any(label for label, _ in rows)
)


def columns(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    label, score = zip(*rows, strict=True)
    return np.array(label, dtype=float), np.array(score, dtype=float)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=2, max_size=40))
def test_auc_is_that_of_scikit_learn(rows: list[tuple[int, int]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    label, score = columns(rows)
    if label.min() == label.max():
        assert math.isnan(auc(label, score))
    else:
        assert auc(label, score) == pytest.approx(metrics.roc_auc_score(label, score))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-2, 2)), min_size=2, max_size=12))
def test_auc_is_the_share_of_ordered_pairs(rows: list[tuple[int, int]]) -> None:
    label, score = columns(rows)
    pairs = [(p > n) + (p == n) / 2 for p in score[label == 1] for n in score[label == 0]]
    assert auc(label, score) == pytest.approx(np.mean(pairs) if pairs else math.nan, nan_ok=True)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(-2, 2), st.integers(0, 3)),
        min_size=1,
        max_size=15,
    )
)
def test_a_weight_is_a_row_that_often(rows: list[tuple[int, int, int]]) -> None:
    label, score, weight = (np.array(c, dtype=float) for c in zip(*rows, strict=True))
    times = weight.astype(int)
    repeated = auc(label.repeat(times), score.repeat(times))
    assert SortedScores(label, score).auc(weight) == pytest.approx(repeated, nan_ok=True)


def test_uauc_is_a_plain_mean_over_users_with_both_classes() -> None:
    label = np.array([1, 0, 1, 1, 0, 0, 1.0])
    score = np.array([2, 1, 9, 9, 5, 6, 5.5])
    user = np.array([7, 7, 3, 3, 5, 5, 5])  # user 3 has likes alone
    assert uauc(label, score, user) == pytest.approx((1 + 0.5) / 2)
    assert uauc(label, score, user, weighted=True) == pytest.approx((2 * 1 + 3 * 0.5) / 5)
    assert math.isnan(uauc(label[2:4], score[2:4], user[2:4]))


def test_log_loss_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    label, p = np.array([1, 0, 1, 0.0]), np.array([0.9, 0.2, 0.4, 0.5])
    assert log_loss(label, p).mean() == pytest.approx(metrics.log_loss(label, p))
    assert np.isfinite(log_loss(np.array([1.0]), np.array([0.0]))).all()
    with pytest.raises(RecommendError, match=r"\[0, 1\]"):
        log_loss(label, p + 1)


@settings(max_examples=60, deadline=None)
@given(lists, st.integers(1, 7))
def test_ranking_is_the_mean_over_all_orders_of_ties(rows: list[tuple[int, int]], k: int) -> None:
    label, score = columns(rows)
    orders = [
        order
        for order in itertools.permutations(range(len(label)))
        if all(score[a] >= score[b] for a, b in itertools.pairwise(order))
    ]
    wanted = int(label.sum())
    ideal = sum(1 / math.log2(i + 2) for i in range(min(k, wanted)))
    expected = {"hr": 0.0, "ndcg": 0.0, "recall": 0.0, "mrr": 0.0}
    for order in orders:
        ranked = label[list(order)]
        top = ranked[:k]
        expected["hr"] += top.any() / len(orders)
        expected["recall"] += top.sum() / wanted / len(orders)
        gain = sum(r / math.log2(i + 2) for i, r in enumerate(top))
        expected["ndcg"] += gain / ideal / len(orders)
        expected["mrr"] += 1 / (1 + int(np.flatnonzero(ranked)[0])) / len(orders)
    found = of_list(label, score, (k,))
    assert found["mrr"] == pytest.approx(expected["mrr"])
    for name in ("hr", "ndcg", "recall"):
        assert found[f"{name}@{k}"] == pytest.approx(expected[name])


def test_ndcg_is_that_of_scikit_learn_without_ties() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    label, score = rng.integers(0, 2, 20).astype(float), rng.permutation(20).astype(float)
    ours = of_list(label, score, (5, 10))
    for k in (5, 10):
        assert ours[f"ndcg@{k}"] == pytest.approx(metrics.ndcg_score([label], [score], k=k))


def test_candidates_are_lists_with_one_target() -> None:
    score = np.array([[3.0, 2, 1], [1, 1, 0], [0, 0, 0]])
    found = of_candidates(np.array([0, 1, 2]), score, (1, 2))
    np.testing.assert_allclose(found["hr@1"], [1, 0.5, 1 / 3])
    np.testing.assert_allclose(found["mrr"], [1, 0.75, (1 + 1 / 2 + 1 / 3) / 3])


def test_lists_without_anything_relevant_are_left_out() -> None:
    groups, found = of_groups(np.array([1, 0, 0.0]), np.ones(3), np.array([4, 4, 9]), (1,))
    assert groups.tolist() == [4]
    assert found["hr@1"].tolist() == [0.5]
    with pytest.raises(RecommendError, match="got none"):
        of_list(np.zeros(3), np.ones(3))


@pytest.mark.parametrize(
    ("label", "score", "message"),
    [
        ([1, 2], [0, 0], "0 and 1"),
        ([1, 0], [0, math.nan], "NaN"),
        ([1, 0], [0], "a score for each"),
    ],
)
def test_bad_scores_are_told(label: list[float], score: list[float], message: str) -> None:
    with pytest.raises(RecommendError, match=message):
        auc(np.array(label), np.array(score))


def test_bootstrap_draws_users_whole() -> None:
    user = np.repeat(np.arange(50), 4)
    values = np.repeat(np.random.default_rng(0).normal(size=50), 4)
    found = mean_interval(values, user, resamples=2000)
    error = values[::4].std() / math.sqrt(50)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert mean_interval(values, user, seed=1) == mean_interval(values, user, seed=1)


def test_judge_gives_every_metric() -> None:
    rng = np.random.default_rng(0)
    label, user = rng.integers(0, 2, 60).astype(float), rng.integers(0, 9, 60)
    found = judge(label, rng.random(60), user, ks=(5,), probabilities=True, resamples=50)
    assert {"auc", "uauc", "log_loss", "ndcg@5", "hr@5", "recall@5", "mrr"} == set(found)
    assert all(one.low <= one.value <= one.high for one in found.values())
    with pytest.raises(RecommendError, match="rows"):
        bootstrap(lambda w: 0.0, user[:0])
