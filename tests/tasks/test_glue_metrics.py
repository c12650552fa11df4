"""The metrics of GLUE against scikit-learn and SciPy, and where those have no number."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loram.tasks.glue_metrics import accuracy, f1, matthews, pearson, scorer, spearman

sklearn = pytest.importorskip("sklearn.metrics")
scipy_stats = pytest.importorskip("scipy.stats")

classes = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40)
few = st.sampled_from([0.0, 0.25, 1.0, 2.5, 5.0])
wide = st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda x: round(x, 3))
scores = st.lists(st.tuples(st.one_of(few, wide), few), min_size=2, max_size=40)


@given(classes)
def test_class_metrics_are_those_of_scikit_learn(pairs):
    said, true = (list(side) for side in zip(*pairs, strict=True))
    assert accuracy(said, true) == pytest.approx(sklearn.accuracy_score(true, said))
    assert f1(said, true) == pytest.approx(sklearn.f1_score(true, said, zero_division=0.0))
    if len({*said}) == 2 or len({*true}) == 2:  # scikit-learn warns of a single label
        assert matthews(said, true) == pytest.approx(sklearn.matthews_corrcoef(true, said))
    assert accuracy([2, 1, 0], [2, 1, 1]) == 2 / 3


@given(scores)
def test_correlations_are_those_of_scipy(pairs):
    said, true = (list(side) for side in zip(*pairs, strict=True))
    if len({*said}) < 2 or len({*true}) < 2:
        assert pearson(said, true) == spearman(said, true) == 0
        return
    assert spearman(said, true) == pytest.approx(scipy_stats.spearmanr(said, true)[0], abs=1e-9)
    assert pearson(said, true) == pytest.approx(scipy_stats.pearsonr(said, true)[0], abs=1e-9)


@pytest.mark.parametrize("said", [[0, 0, 0, 0], [1, 1, 1, 1]])
def test_constant_predictions_have_no_correlation_and_no_warning(said):
    true = [0, 1, 1, 0]
    assert matthews(said, true) == pearson(said, true) == spearman(said, true) == 0
    assert f1([0, 0], [0, 0]) == f1([0, 0], [1, 1]) == 0


def test_a_prediction_that_is_not_finite_has_no_correlation():
    for value in (math.nan, math.inf):
        assert math.isnan(pearson([0.0, value], [0, 1]))
        assert math.isnan(spearman([0.0, value], [0, 1]))


def test_large_and_small_scores_neither_overflow_nor_vanish():
    for scale in (1e200, 1e-200):
        assert pearson([0.0, scale, 2 * scale], [0, 1, 2]) == pytest.approx(1)


def test_a_scorer_names_its_metrics():
    assert scorer("accuracy", "f1")([1, 0], [1, 1]) == {"accuracy": 0.5, "f1": 2 / 3}
