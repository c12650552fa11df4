"""Appendix B and Proposition 5 against what is measured."""

import pytest
import torch

from loram.dynamics import excess_risk, steepest_factors


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(20))
def test_no_bounded_update_beats_the_bound(seed):
    n, m, r = 6, 5, 2
    gap, root = draw(n, m, seed=seed), draw(m, m, seed=seed + 100)
    covariance = root @ root.T
    update = draw(n, r, seed=seed + 200) @ draw(r, m, seed=seed + 300)
    nu = float(update.square().mean())
    left = gap - update
    risk = float(torch.trace(left @ covariance @ left.T))
    bound = excess_risk(gap, covariance, nu=nu, r=r)
    assert 0 <= max(bound) <= risk * (1 + 1e-12)


def test_the_bounds_are_reached():
    """White inputs: by the update along the gap, and by the best approximation of rank r."""
    gap, white = draw(6, 5), torch.eye(5, dtype=torch.float64)
    half = gap / 2
    bound = excess_risk(gap, white, nu=float(half.square().mean()), r=5)
    assert bound.magnitude == pytest.approx(float(half.square().sum()))
    U, S, Vh = torch.linalg.svd(gap, full_matrices=False)
    best = (U[:, :2] * S[:2]) @ Vh[:2]
    assert excess_risk(gap, white, nu=1e9, r=2).rank == pytest.approx(
        float((gap - best).square().sum())
    )
    assert excess_risk(gap, white, nu=1e9, r=2).magnitude == 0


def test_steepest_factors_beat_every_other_choice():
    G, r = draw(9, 12), 3
    B, A = steepest_factors(G, r)
    eye = torch.eye(r, dtype=torch.float64)
    torch.testing.assert_close(B.T @ B, eye)
    torch.testing.assert_close(A @ A.T, eye)
    for seed in range(200):
        other_B = torch.linalg.qr(draw(9, r, seed=seed))[0]
        other_A = torch.linalg.qr(draw(12, r, seed=seed))[0].T
        assert (other_B.T @ G).norm() <= (B.T @ G).norm() * (1 + 1e-12)
        assert (G @ other_A.T).norm() <= (G @ A.T).norm() * (1 + 1e-12)


def test_bad_input():
    with pytest.raises(ValueError, match=r"expected Σ \(5, 5\)"):
        excess_risk(draw(6, 5), torch.eye(4), nu=1.0, r=1)
    with pytest.raises(ValueError, match="bounds ≥ 0"):
        excess_risk(draw(6, 5), torch.eye(5), nu=-1.0, r=1)
    with pytest.raises(ValueError, match=r"1 ≤ r ≤ min\(n, m\) = 5"):
        steepest_factors(draw(6, 5), 6)
