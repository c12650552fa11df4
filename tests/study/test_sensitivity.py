"""Width of the range of good rates on curves whose answer is known, and the best rate's slope."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loram.study.sensitivity import slope_over_ranks, width

GRID = [10 ** (k / 4) for k in range(-20, -7)]  # 1e-5 to 1e-2


@pytest.mark.parametrize(("better", "flip"), [("high", 1), ("low", -1)])
def test_a_tent_is_cut_where_it_should_be(better, flip):
    """0.8 - 0.08·|log lr + 3.5| is within 2 % of 0.8 for 0.2 decades on both sides."""
    values = [flip * (0.8 - 0.08 * abs(math.log10(lr) + 3.5)) for lr in GRID]
    found = width(GRID, values, better)
    assert found.decades == pytest.approx(0.4)
    assert (found.low, found.high) == pytest.approx((10**-3.7, 10**-3.3))
    assert not found.open_low
    assert not found.open_high


def test_a_parabola_on_a_fine_grid():
    lrs = np.logspace(-5, -2, 301)
    values = [0.9 - 0.1 * (math.log10(lr) + 3.2) ** 2 for lr in lrs]
    assert width(lrs, values, "high").decades == pytest.approx(2 * math.sqrt(0.18), abs=1e-3)


def test_a_loss_is_within_two_percent_above_its_best():
    values = [1.0 + 0.1 * abs(math.log10(lr) + 3.5) for lr in GRID]
    assert width(GRID, values, "low").decades == pytest.approx(0.4)


def test_a_correlation_below_zero_and_at_zero():
    tent = [-abs(math.log10(lr) + 3.5) for lr in GRID]
    assert width(GRID, [v - 0.5 for v in tent], "high").decades == pytest.approx(0.02)
    assert width(GRID, tent, "high").decades == 0


def test_the_edge_of_the_grid_is_flagged():
    flat = width(GRID, [0.5] * len(GRID), "high")
    assert (flat.decades, flat.open_low, flat.open_high) == (pytest.approx(3), True, True)
    rising = width(GRID, [0.5 + 0.1 * k for k in range(len(GRID))], "high")
    assert (rising.open_low, rising.open_high) == (False, True)


def test_divergence_ends_the_range_at_the_last_point_before_it():
    values = [0.5] * len(GRID)
    values[5], values[8] = 0.501, None
    values[2] = math.nan
    found = width(GRID, values, "high")
    assert (found.low, found.high) == pytest.approx((GRID[3], GRID[7]))
    assert not found.open_low
    assert not found.open_high


def test_nothing_but_divergence():
    assert width(GRID, [None] * len(GRID), "high") is None
    assert width([], [], "high") is None
    assert width([1e-3], [0.5], "high") == (0, pytest.approx(1e-3), pytest.approx(1e-3), True, True)


@given(st.lists(st.floats(0.1, 1), min_size=2, max_size=13), st.floats(0.1, 10))
def test_width_has_no_units_and_grows_with_tolerance(values, unit):
    lrs = GRID[: len(values)]
    widths = [width(lrs, values, "high", tolerance).decades for tolerance in (0, 0.01, 0.02, 0.5)]
    assert widths == sorted(widths)
    scaled = width(lrs, [unit * v for v in values], "high", 0.3).decades
    assert scaled == pytest.approx(width(lrs, values, "high", 0.3).decades, abs=1e-6)


def test_slope_of_best_rates_that_fall_with_the_root_of_rank():
    ranks = [1, 4, 16, 64]
    lrs = [GRID] * 4
    optimum = [-3.0 - 0.5 * math.log10(rank) for rank in ranks]
    values = [
        np.array([[-((math.log10(lr) - best) ** 2)] * 3 for lr in np.array(GRID)])
        for best in optimum
    ]
    found = slope_over_ranks(ranks, lrs, values, "high")
    # The grid's points are 0.25 apart: the best rates on it go down by 0, 1, 1, 1 points and so on.
    assert found.slope == pytest.approx(-0.5, abs=0.1)
    assert (found.low, found.high) == (found.slope, found.slope)


def test_slope_bounds_come_from_seeds_that_disagree():
    peaks = {0: -4.0, 1: -3.0}
    first = np.array([[-(abs(math.log10(lr) - peaks[s]) ** 2) for s in (0, 1)] for lr in GRID])
    second = np.array([[-(abs(math.log10(lr) + 3.5) ** 2) for _ in (0, 1)] for lr in GRID])
    found = slope_over_ranks([1, 10], [GRID, GRID], [first, second], "high")
    assert found.slope == pytest.approx(0, abs=1e-9)
    assert found.low == pytest.approx(-0.5, abs=1e-9)
    assert found.high == pytest.approx(0.5, abs=1e-9)


def test_slope_takes_the_rates_that_the_sweep_takes():
    """A rate with a diverged seed is barred, one that lacks a seed too, unless all lack it."""
    tent = np.array([[-abs(math.log10(lr) + 3.5)] * 2 for lr in GRID])
    best = int(np.argmax(tent[:, 0]))
    shifted = tent.copy()
    shifted[best, 1] = np.inf
    lacking = tent.copy()
    lacking[best, 1] = np.nan
    for other in (shifted, lacking):
        found = slope_over_ranks([1, 10], [GRID, GRID], [tent, other], "high")
        assert found.slope == pytest.approx(-0.25)  # the lower of the two neighbours
    half = tent.copy()
    half[:, 1] = np.nan
    assert slope_over_ranks([1, 10], [GRID] * 2, [tent, half], "high").slope == pytest.approx(0)
    assert slope_over_ranks([1, 10], [GRID] * 2, [tent, tent + np.inf], "high") is None


def test_slope_needs_two_ranks_and_bounds_two_seeds():
    one = np.zeros((len(GRID), 1))
    assert slope_over_ranks([8], [GRID], [one], "high") is None
    assert slope_over_ranks([8, 16], [GRID] * 2, [one, one * math.nan], "high") is None
    assert slope_over_ranks([8, 16], [GRID] * 2, [one, one], "high") == (
        pytest.approx(0),
        None,
        None,
    )
