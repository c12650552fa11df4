"""The rule of the best rate, and of the end of a grid."""

import pytest

from loram.study.choice import Tried, best, edge


def rates(*values):
    return [Tried(*value) for value in values]


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        (rates((0.7, 3, 0), (0.8, 3, 0), (0.8, 3, 0), (0.9, 2, 1)), 1),  # ties: the lower one
        (rates((-0.7, 3, 0), (-0.8, 3, 0), (-0.6, 1, 2)), 0),
        # A rate that lacks the seed that does badly everywhere is no better for it.
        (rates((0.7, 2, 0), (0.9, 1, 0)), 0),
        (rates((0.7, 1, 0), (0.9, 1, 0), (None, 0, 2)), 1),
        (rates((0.7, 1, 0), (0.9, 2, 1)), 0),  # a seed that diverged elsewhere is not lacking
        (rates((None, 0, 3), (0.9, 1, 1)), None),
        (rates((None, 0, 0)), None),
        ([], None),
    ],
)
def test_the_best_rate(tried, expected):
    assert best(tried) == expected


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        (rates((0.9, 1, 0), (0.8, 1, 0), (0.7, 1, 0)), "low"),
        (rates((0.7, 1, 0), (0.8, 1, 0), (0.9, 1, 0)), "high"),
        (rates((0.7, 1, 0), (0.9, 1, 0), (0.8, 1, 0)), None),
        (rates((0.7, 1, 0), (0.9, 1, 0), (None, 0, 1)), None),  # diverging beyond was a try
        (rates((0.5, 1, 0), (0.5, 1, 0), (0.5, 1, 0)), None),  # nothing is learned anywhere
        (rates((0.9, 2, 0), (0.9, 1, 0), (0.7, 2, 0)), "low"),  # as good, of fewer seeds
        (rates((0.5, 1, 0), (0.5, 1, 0)), "low"),
        (rates((0.5, 1, 0)), "low"),
    ],
)
def test_the_end_of_a_grid(tried, expected):
    assert edge(tried, best(tried)) == expected
