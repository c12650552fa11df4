"""Whether methods fall on one curve: told apart on data where the answer is known."""

import numpy as np
import pytest

from loram.study.collapse import Point, collapse

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
                found.append(Point(label, float(lr), float(update), float(value)))
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
    assert two.by_update.low is None  # resampling two methods says nothing


def test_equal_magnitudes_and_one_rate_are_not_a_crash():
    same = [p._replace(update=1e-6, lr=1e-3) for p in points(of_update)]
    found = collapse(same)
    assert found.by_update.r2 <= 0
    assert np.isfinite([value for _, value in found.curve]).all()
