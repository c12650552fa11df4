"""Spectra of thin products from Gram matrices, against dense singular values in float64."""

import math

import pytest
import torch

from loram.probe.lowrank import effective_rank, singular_values, squared_norm, stable_rank


def grams(left, right):
    return left.mT @ left, right @ right.mT


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-5])
@pytest.mark.parametrize(("n", "m", "r"), [(40, 30, 4), (12, 50, 6), (5, 7, 5)])
def test_the_spectrum_of_an_update_is_that_of_the_dense_product(n, m, r, size):
    g = torch.Generator().manual_seed(0)
    B0, A0, dB, dA = (
        torch.randn(3, *shape, generator=g, dtype=torch.float64) for shape in [(n, r), (r, m)] * 2
    )
    dB, dA = size * dB, size * dA
    left, right = torch.cat([dB, B0], 2), torch.cat([A0 + dA, dA], 1)
    sigma = singular_values(*grams(left, right))
    dense = torch.linalg.svdvals(left @ right)
    k = min(dense.shape[1], 2 * r)
    torch.testing.assert_close(
        sigma[:, :k], dense[:, :k], rtol=1e-6, atol=1e-7 * float(dense.max())
    )
    assert float(sigma[:, k:].sum()) <= 1e-5 * float(dense.max())
    torch.testing.assert_close(
        squared_norm(*grams(left, right)), (left @ right).square().sum((1, 2)), rtol=1e-10, atol=0
    )
    p = dense / dense.sum(1, keepdim=True)
    torch.testing.assert_close(
        effective_rank(sigma), (-(p * p.clamp_min(1e-300).log()).sum(1)).exp(), rtol=1e-5, atol=0
    )
    torch.testing.assert_close(
        stable_rank(sigma), dense.square().sum(1) / dense[:, 0] ** 2, rtol=1e-9, atol=0
    )


def test_equal_singular_values_count_in_full():
    eye = torch.eye(6, dtype=torch.float64)
    sigma = singular_values(eye, 4 * eye)
    torch.testing.assert_close(sigma, 2 * torch.ones(6, dtype=torch.float64))
    assert float(effective_rank(sigma)) == pytest.approx(6)
    assert float(stable_rank(sigma)) == pytest.approx(6)


def test_dependent_and_zero_columns_are_no_trouble():
    """Plain LoRA's [dB | 0]·[A ; dA], with dB of rank one."""
    g = torch.Generator().manual_seed(0)
    u, v, A, dA = (
        torch.randn(s, generator=g, dtype=torch.float64) for s in [(20, 1), (1, 4), (4, 9), (4, 9)]
    )
    left, right = torch.cat([u @ v, torch.zeros(20, 4)], 1), torch.cat([A, dA])
    sigma = singular_values(*grams(left, right))
    dense = torch.linalg.svdvals(left @ right)
    assert float(sigma[0]) == pytest.approx(float(dense[0]), rel=1e-9)
    assert float(effective_rank(sigma)) == pytest.approx(1, abs=1e-4)


def test_nothing_and_not_a_number_have_no_rank():
    eye = torch.eye(3, dtype=torch.float64)
    broken = eye.clone()
    broken[1, 1] = math.inf
    sigma = singular_values(torch.stack([eye, 0 * eye, broken]), torch.stack([eye] * 3))
    assert sigma[1].eq(0).all()
    assert sigma[2].isnan().all()
    for rank in (stable_rank(sigma), effective_rank(sigma)):
        assert rank.isnan().tolist() == [False, True, True]
