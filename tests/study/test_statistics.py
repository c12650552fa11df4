"""Intervals, paired tests and Holm's correction against textbook formulas and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from loram.study.statistics import bootstrap, holm, paired, stratified, student


def test_students_interval_by_hand():
    found = student([1.0, 2.0, 4.0])
    mean, spread = 7 / 3, math.sqrt(7 / 3)  # ((4/3)² + (1/3)² + (5/3)²) / 2 = 7/3
    reach = 4.302652729911275 * spread / math.sqrt(3)  # t of 2 degrees of freedom
    assert found == pytest.approx((mean, mean - reach, mean + reach, 3))


@pytest.mark.parametrize(("n", "students", "bootstraps"), [(3, 0.95, 0.75), (5, 0.95, 0.83)])
def test_coverage_with_few_seeds(n, students, bootstraps):
    """Student's interval covers as it says, the bootstrap does not: docs/report.md says so."""
    generator = np.random.default_rng(1)
    covered = np.zeros(2)
    trials = 1000
    for _ in range(trials):
        values = generator.normal(size=n).tolist()
        for k, interval in enumerate((student(values), bootstrap(values))):
            covered[k] += interval.low <= 0 <= interval.high
    assert covered / trials == pytest.approx([students, bootstraps], abs=0.04)


@pytest.mark.parametrize("interval", [student, bootstrap])
def test_no_interval_of_one_value_or_of_equals(interval):
    assert interval([0.5]) == (0.5, None, None, 1)
    assert interval([0.7, 0.7, 0.7]) == (pytest.approx(0.7), None, None, 3)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_what_has_no_mean_is_refused(values):
    with pytest.raises(ValueError, match="finite"):
        student(values)


def test_paired_is_students_test_of_the_differences():
    first, second = {0: 1.0, 1: 2.0, 2: 3.5}, {0: 0.5, 1: 1.0, 2: 3.4, 9: 100.0}
    found = paired(first, second)
    t = np.mean([0.5, 1.0, 0.1]) / (np.std([0.5, 1.0, 0.1], ddof=1) / math.sqrt(3))
    assert found.p == pytest.approx(2 * stats.t.sf(t, 2))
    assert found.difference == pytest.approx(student([0.5, 1.0, 0.1]))
    assert found.wilcoxon is None
    back = paired(second, first)
    assert back.p == pytest.approx(found.p)
    assert back.difference.mean == pytest.approx(-found.difference.mean)


def test_wilcoxon_from_six_pairs():
    first = {seed: 0.1 * (seed + 1) for seed in range(6)}
    assert paired(first, dict.fromkeys(range(6), 0.0)).wilcoxon == pytest.approx(2 / 2**6)
    ties = paired({**first, 1: 0.1}, dict.fromkeys(range(6), 0.0))
    assert 0 < ties.wilcoxon < 0.05


def test_pairs_that_can_not_be_tested():
    assert paired({0: 1.0}, {1: 1.0}) is None
    assert paired({0: 1.0}, {0: 0.5}).p is None
    equal = paired({0: 0.6, 1: 0.7, 2: 0.8}, {0: 0.5, 1: 0.6, 2: 0.7})  # 0.1 each, up to rounding
    assert equal.p is None
    assert equal.difference.low is None
    assert paired({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}).p == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.04, None, 0.01]) == [pytest.approx(0.04), None, pytest.approx(0.02)]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_its_procedure_rejects(p_values):
    """Step down from the smallest p while p(k) ≤ α / (m - k); between Bonferroni's and none."""
    corrected = holm(p_values)
    m = len(p_values)
    for alpha in (0.01, 0.05, 0.3):
        rejected: set[int] = set()
        for k, index in enumerate(sorted(range(m), key=p_values.__getitem__)):
            if p_values[index] * (m - k) > alpha:
                break
            rejected.add(index)
        assert {i for i, p in enumerate(corrected) if p <= alpha} == rejected
    for p, q in zip(p_values, corrected, strict=True):
        assert p <= q <= min(1.0, m * p) + 1e-15


def test_stratified_of_one_task_is_the_paired_test():
    values = [0.5, 1.0, 0.1]
    found = stratified([values])
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue)
    assert found.difference == pytest.approx(student(values))


def test_stratified_covers_with_unequal_spreads():
    generator = np.random.default_rng(2)
    wrong = 0
    for _ in range(2000):
        strata = [spread * generator.normal(size=3) for spread in (1.0, 1.0, 0.3, 2.0)]
        wrong += stratified(strata).p < 0.05
    assert wrong / 2000 < 0.06


def test_stratified_without_spread_or_values():
    assert stratified([]) is None
    assert stratified([[1.0], []]) is None
    assert stratified([[0.1], [0.2]]).p is None
    assert stratified([[0.1, 0.1], [0.2, 0.2]]).p is None
    assert stratified([[0.0, 0.0], [0.0, 0.0]]).p == 1.0
