"""Methods' magnitudes exchanged: exact where they say nothing, sharp where they say all."""

import numpy as np
import pytest

from loram.study.collapse import collapse
from loram.study.exchange import exchange
from loram.study.point import Point


def runs(generator, *, told: bool, methods: int = 4, rank: int = 8) -> list[Point]:
    """ν = (lr · c)² with a constant of the method's own, which its best rate follows, or not."""
    found = []
    for k in range(methods):
        shift, other = generator.normal(size=2)
        for log in np.arange(-4, -1.9, 0.25):
            optimum = -3 - (shift if told else other)
            value = np.exp(-((log - optimum) ** 2)) + 0.02 * generator.normal()
            update = 10 ** (2 * (log + shift))
            found.append(Point(str(k), rank, float(10**log), float(update), float(value)))
    return found


def test_magnitudes_that_say_all_are_told_from_exchanged_ones():
    generator = np.random.default_rng(0)
    four = exchange(runs(generator, told=True))
    assert four.p == pytest.approx(1 / 24)  # the least that four methods allow
    assert four.own > 0.9
    assert four.exchanged < 0.5
    assert exchange(runs(generator, told=True, methods=8)).p == pytest.approx(1 / 500)


def test_p_is_uniform_where_magnitudes_say_nothing():
    generator = np.random.default_rng(1)
    p = np.array([exchange(runs(generator, told=False)).p for _ in range(80)])
    assert np.mean(p <= 0.05) <= 0.125  # at 1/24 more of 80 have a probability below 0.1 %
    assert np.mean(p <= 0.5) == pytest.approx(0.5, abs=0.17)


def test_methods_of_one_magnitude_can_not_be_told_apart():
    generator = np.random.default_rng(2)
    same = [p._replace(update=p.lr**2) for p in runs(generator, told=True)]
    assert exchange(same).p == 1


def test_a_method_s_units_of_magnitude_and_seeds_do_not_matter():
    every = runs(np.random.default_rng(3), told=False)
    found = exchange(every)
    assert exchange([p._replace(update=1e3 * p.update) for p in every]) == pytest.approx(found)
    assert found.own == pytest.approx(collapse(every).by_update.r2)
    twice = exchange([each for p in every for each in (p, p)])
    assert twice.p == pytest.approx(found.p, abs=0.1)


def test_one_rate_for_all_exchanges_the_values_themselves():
    generator = np.random.default_rng(4)
    magnitudes = 10 ** generator.uniform(-8, -5, 20)
    told = [Point(str(k), 8, 2e-4, float(u), float(np.log10(u))) for k, u in enumerate(magnitudes)]
    assert exchange(told).p == pytest.approx(1 / 500)
    noise = [p._replace(metric=float(generator.normal())) for p in told]
    assert exchange(noise).p > 0.05


def test_of_several_ranks_those_are_taken_that_all_methods_have():
    generator = np.random.default_rng(5)
    at_8 = runs(generator, told=True)
    other = [p for p in runs(generator, told=False, rank=64) if p.label != "0"]
    assert exchange(at_8 + other) == exchange(at_8)
    both = exchange(at_8 + runs(generator, told=True, rank=64))
    assert both.p == pytest.approx(1 / 24)


def test_what_is_too_little():
    every = runs(np.random.default_rng(6), told=True)
    assert exchange([]) is None
    assert exchange([p for p in every if p.label != "0"]) is None  # three methods
    assert exchange([p._replace(metric=1.0) for p in every]) is None
    assert exchange([p._replace(rank=int(p.label)) for p in every]) is None  # no rank of all
