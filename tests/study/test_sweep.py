"""The rule of the sweep, against its own words."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loram.study.grid import points, rate
from loram.study.sweep import Ask, Outcome, Sweep, advance


def run_all(sweep, outcome):
    """Do what is asked until nothing is; the end state, and what was run, in order."""
    done, stages = {}, []
    for _ in range(100):
        state = advance(sweep, done.get)
        if state.stage == "done":
            return state, done, stages
        assert state.needed
        for ask in state.needed:
            assert ask not in done
            done[ask] = outcome(ask)
            stages.append((state.stage, ask))
    raise AssertionError("the sweep does not end")


def parabola(optima):
    return lambda ask: Outcome(-((ask.k - optima[ask.method]) ** 2) - 0.01 * ask.seed)


SWEEP = Sweep(("a", "b"), range(-12, -7), 3, (0,), (0, 1, 2))


def test_an_optimum_inside_needs_no_more_than_the_grid_and_the_other_seeds():
    state, done, _ = run_all(SWEEP, parabola({"a": -10, "b": -9}))
    assert state.best == {"a": -10, "b": -9}
    assert state.points == SWEEP.points
    assert state.edges == {}
    assert len(done) == 2 * 5 + 2 * 2


def test_an_optimum_at_an_edge_extends_the_grid_of_every_method():
    state, done, _ = run_all(SWEEP, parabola({"a": -10, "b": -7}))
    assert state.points == range(-12, -5)  # to -6, where b is seen to fall again
    assert state.best == {"a": -10, "b": -7}
    assert state.edges == {}
    assert {ask.k for ask in done if ask.method == "a"} == set(state.points)


def test_a_grid_grows_no_further_than_it_may_and_says_who_is_at_its_edge():
    state, _, _ = run_all(SWEEP, parabola({"a": -30, "b": -10}))
    assert state.points == range(-15, -7)
    assert state.best["a"] == -15
    assert state.edges == {"a": "low"}


def test_a_method_that_learns_nothing_at_any_rate_extends_nothing():
    def outcome(ask):
        return Outcome(0.0) if ask.method == "a" else parabola({"b": -10})(ask)

    state, _, _ = run_all(SWEEP, outcome)
    assert state.points == SWEEP.points
    assert (state.best, state.edges) == ({"a": SWEEP.points[0], "b": -10}, {})


def test_a_side_that_diverges_is_an_end():
    def outcome(ask):
        return Outcome(-math.inf if ask.k > -8 else float(ask.k))

    state, done, _ = run_all(SWEEP, outcome)
    assert state.points == range(-12, -6)
    assert state.best == {"a": -8, "b": -8}
    assert state.edges == {}
    assert not [ask for ask in done if ask.k > -7]


def test_where_every_rate_diverges_the_grid_grows_down():
    state, _, _ = run_all(SWEEP, lambda ask: Outcome(-math.inf))
    assert state.points == range(-15, -7)
    assert state.best == {"a": None, "b": None}
    assert state.edges == {"a": "low", "b": "low"}


def test_a_diverged_or_failed_tuning_seed_rules_a_rate_out():
    sweep = Sweep(("a",), range(0, 3), 0, (0, 1), (0, 1))
    scores = {0: 1.0, 1: 5.0, 2: 3.0}

    def outcome(ask):
        if ask.seed == 1 and ask.k == 1:
            return Outcome(-math.inf)
        if ask.seed == 1 and ask.k == 2:
            return Outcome(None)
        return Outcome(scores[ask.k])

    state, _, _ = run_all(sweep, outcome)
    assert state.best == {"a": 0}


def test_where_a_seed_fails_at_every_rate_the_others_decide():
    sweep = Sweep(("a",), range(0, 3), 0, (0, 1), (0, 1))

    def outcome(ask):
        return Outcome(None if ask.seed == 1 else {0: 1.0, 1: 5.0, 2: 3.0}[ask.k])

    state, _, _ = run_all(sweep, outcome)
    assert state.best == {"a": 1}


def test_a_rate_that_diverged_does_not_rule_out_those_that_lack_a_seed():
    sweep = Sweep(("a",), range(0, 3), 2, (0, 1), (0, 1))

    def outcome(ask):
        if ask.k >= 2:
            return Outcome(-math.inf)
        return Outcome(None if ask.seed == 1 else float(ask.k))

    state, _, _ = run_all(sweep, outcome)
    assert state.best == {"a": 1}


def test_a_method_all_of_whose_runs_failed_has_no_best_and_stops_nobody():
    def outcome(ask):
        return Outcome(None) if ask.method == "a" else parabola({"b": -10})(ask)

    state, _, _ = run_all(SWEEP, outcome)
    assert state.best == {"a": None, "b": -10}
    assert (state.points, state.edges) == (SWEEP.points, {})


optima = st.fixed_dictionaries({name: st.integers(-20, 5) for name in "abc"})


@given(optima, st.integers(0, 5), st.sets(st.integers(0, 3), min_size=1), st.integers(-30, 30))
def test_tuning_budgets_are_equal_and_the_sweep_finds_the_optimum_it_may_reach(
    optima, extend, tuning, diverges_from
):
    sweep = Sweep(("a", "b", "c"), range(-10, -5), extend, tuple(tuning), (0, 1, 2, 3))

    def outcome(ask):
        return Outcome(-math.inf) if ask.k >= diverges_from else parabola(optima)(ask)

    state, done, stages = run_all(sweep, outcome)
    spent = Counter(ask.method for stage, ask in stages if stage == "tuning")
    assert len(set(spent.values())) == 1
    assert -10 - extend <= state.points[0] <= -10
    assert -6 <= state.points[-1] <= -6 + extend
    for method, k in state.best.items():
        fit = [p for p in state.points if p < diverges_from]
        assert k == (min(fit, key=lambda p: abs(p - optima[method])) if fit else None)
        if method not in state.edges:
            # Nothing further out can be better: a parabola, or divergence.
            assert k == optima[method] or k == diverges_from - 1
        if k is not None:
            assert all(Ask(method, k, seed) in done for seed in sweep.seeds)
    # A study that was stopped comes to the same state.
    assert advance(sweep, done.get) == state


@given(st.integers(-40, 8), st.integers(1, 6), st.integers(1, 6))
def test_grids_of_two_studies_coincide(k, per_decade, times):
    assert rate(k, per_decade) == rate(k * times, per_decade * times)


@pytest.mark.parametrize("power", range(-8, 1))
def test_powers_of_ten_are_what_one_writes(power):
    assert rate(power * 4, 4) == float(f"1e{power}")


def test_grid_points_lie_within_what_was_asked_for():
    assert points(1e-5, 1e-2, 4) == range(-20, -7)
    assert points(2e-5, 3e-4, 4) == range(-18, -14)
    assert len(points(2e-5, 2.1e-5, 1)) == 0
