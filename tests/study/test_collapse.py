"""Whether methods fall on one curve: told apart on data where the answer is known."""

import numpy as np
import pytest
from scipy import stats

from loram.study.collapse import collapse
from loram.study.point import Point

METHODS = ("a", "b", "c", "d", "e", "f")


def points(metric, noise: float = 0.0, seeds: int = 3) -> list[Point]:
    """Runs whose magnitude is lr² times a factor of the method's own, decades apart."""
    generator = np.random.default_rng(0)
    found = []
    for k, label in enumerate(METHODS):
        for lr in 10 ** np.arange(-5, -1.9, 0.25):
            for _ in range(seeds):
                update = lr**2 * 10 ** (0.6 * k + 0.05 * generator.normal())
                value = metric(lr, update, k) + noise * generator.normal()
                found.append(Point(label, 8, float(lr), float(update), float(value)))
    return found


def bump(x):
    return 0.6 + 0.3 * np.exp(-((x) ** 2))


def of_update(lr, update, k):
    return bump((np.log10(update) + 5) / 2)


def of_rate(lr, update, k):
    return bump(np.log10(lr) + 3.5)


def test_a_function_of_the_magnitude_collapses_over_it_only():
    found = collapse(points(of_update))
    assert found.by_update.r2 > 0.98
    assert found.by_lr.r2 < 0.8
    assert found.advantage.low > 0
    assert found.advantage.r2 == pytest.approx(found.by_update.r2 - found.by_lr.r2)


def test_a_function_of_the_rate_collapses_over_it_only():
    found = collapse(points(of_rate))
    assert found.by_lr.r2 > 0.98
    assert found.by_update.r2 < 0.8
    assert found.advantage.high < 0


def test_noise_is_not_explained():
    found = collapse(points(lambda lr, update, k: 0.0, noise=1.0))
    assert found.by_update.r2 < 0.1
    assert found.by_lr.r2 < 0.1
    assert found.by_update.rmse == pytest.approx(1, rel=0.15)
    assert abs(found.advantage.r2) < 0.05  # below what the report calls a difference


def test_a_method_above_the_curve_is_named_with_its_distance():
    found = collapse(points(lambda lr, u, k: of_update(lr, u, k) + 0.05 * (k == 3), noise=0.005))
    above = {each.label: each.mean for each in found.residuals}
    assert above["d"] == pytest.approx(0.05, abs=0.01)
    assert all(above[label] < 0.01 for label in METHODS if label != "d")


def test_the_curve_of_a_picture_runs_through_the_points():
    found = collapse(points(of_update))
    x, y = np.array(found.curve).T
    inside = slice(5, -5)
    expected = [of_update(None, update, None) for update in x[inside]]
    assert y[inside] == pytest.approx(expected, abs=0.02)


def test_what_is_too_little_for_the_test():
    every = points(of_update)
    assert collapse([]) is None
    assert collapse([p for p in every if p.label == "a"]) is None
    assert collapse(every[:3] + every[-3:]) is None
    assert collapse([p._replace(metric=0.5) for p in every]) is None
    two = collapse([p for p in every if p.label in "ab"])
    assert two.advantage.low is None  # leaving out one of two says nothing
    assert two.exchange is None


def test_equal_magnitudes_and_one_rate_are_not_a_crash():
    same = [p._replace(update=1e-6, lr=1e-3) for p in points(of_update)]
    found = collapse(same)
    assert found.by_update.r2 <= 0
    assert np.isfinite([value for _, value in found.curve]).all()


def four(generator, tied: bool) -> list[Point]:
    """Four methods, each with an optimum of its own on the axis of rates; on that of magnitudes
    one for all (tied), or each one of its own there too: neither axis is better."""
    found = []
    for k in range(4):
        optimum, shift = 0.4 * generator.normal(size=2)
        for log in np.arange(-4, -1.9, 0.25):
            value = bump(2 * (log + 3 - optimum)) + 0.01 * generator.normal()
            update = 10 ** (log - optimum + (0 if tied else shift))
            found.append(Point(str(k), 8, float(10**log), float(update), float(value)))
    return found


def test_no_winner_is_declared_where_there_is_none():
    generator = np.random.default_rng(1)
    found = [collapse(four(generator, tied=False)).advantage for _ in range(60)]
    wrong = sum(each.low > 0 or each.high < 0 for each in found)
    assert wrong <= 8  # at 5 % more of 60 have a probability below 1 %


def test_the_jackknife_by_hand():
    every = points(of_update, noise=0.01, seeds=1)
    found = collapse(every).advantage
    without = [collapse([p for p in every if p.label != label]).advantage.r2 for label in METHODS]
    error = np.sqrt(5 / 6 * np.sum((without - np.mean(without)) ** 2))
    assert found.high - found.low == pytest.approx(2 * stats.t.ppf(0.975, 5) * error)
    assert found.r2 == pytest.approx((found.low + found.high) / 2)
