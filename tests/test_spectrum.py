"""Bounds of Q[r] against exact SVDs."""

import math

import pytest
import torch

from loram.magnitude import spectral_gain
from loram.spectrum import gain_bounds, rank_for


def decaying(n: int, m: int, power: float) -> torch.Tensor:
    R = min(n, m)
    U = torch.linalg.qr(torch.randn(n, R, dtype=torch.float64)).Q
    V = torch.linalg.qr(torch.randn(m, R, dtype=torch.float64)).Q
    return (U * torch.arange(1, R + 1, dtype=torch.float64) ** -power) @ V.T


@pytest.mark.parametrize("r", [1, 2, 16, 40])
@pytest.mark.parametrize("power", [0.0, 0.1, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("shape", [(40, 300), (300, 250)])
def test_the_bounds_enclose_the_exact_gain_and_the_estimate_is_near(shape, power, r):
    W = decaying(*shape, power)
    exact = spectral_gain(W, r)
    low, high = gain_bounds(W, r)
    assert low <= exact <= high
    assert low == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("scale", [1e-18, 1.0, 1e18])
def test_the_gain_does_not_depend_on_the_scale(scale):
    W = decaying(60, 50, 0.5)
    assert gain_bounds(W * scale, 8) == pytest.approx(gain_bounds(W, 8), rel=1e-5)


def test_a_random_matrix_and_a_low_rank_one_are_enclosed():
    for W in (torch.randn(400, 300), torch.randn(300, 3) @ torch.randn(3, 200), torch.ones(50, 1)):
        r = min(16, *W.shape)
        low, high = gain_bounds(W, r)
        assert low <= spectral_gain(W, r) <= high


@pytest.mark.parametrize(
    ("W", "r", "message"),
    [
        (torch.zeros(4, 4), 2, "not zero"),
        (torch.full((4, 4), math.nan), 2, "finite"),
        (torch.ones(4, 3), 4, "min"),
        (torch.ones(4), 1, "matrix"),
    ],
)
def test_weights_without_a_gain_are_refused(W, r, message):
    with pytest.raises(ValueError, match=message):
        gain_bounds(W, r)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_k_equal_singular_values_need_rank_k(k):
    sigma = torch.cat([torch.full((k,), 2.0), torch.zeros(4)]).double()
    assert rank_for(sigma, 0.999) == k


def test_a_zero_matrix_has_rank_zero():
    sigma = torch.zeros(3).double()
    assert rank_for(sigma, 0.9) == 0
