"""MiLoRA and LoRA-One against NumPy in float64, which shares no code with the library."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loram.magnitude import nu_product
from loram.schemes import lora_one, milora

SHAPES = {"n": st.integers(2, 40), "m": st.integers(2, 40), "seed": st.integers(0, 10**6)}


def matrix(n, m, seed, dtype=torch.float64):
    return torch.randn(n, m, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def components(W, start, stop):
    """(U √σ, √σ Vᵀ) of the components [start, stop), by the eigenvectors of a symmetric matrix.

    [[0, W], [Wᵀ, 0]] has the eigenvalues ±σ with the eigenvectors (u; ±v)/√2: another route than
    an SVD.
    """
    W = W.numpy()
    n, m = W.shape
    values, vectors = np.linalg.eigh(np.block([[np.zeros((n, n)), W], [W.T, np.zeros((m, m))]]))
    order = np.argsort(-values)[: min(n, m)][start:stop]
    root = np.sqrt(np.maximum(values[order], 0))
    u, v = np.sqrt(2) * vectors[:n, order], np.sqrt(2) * vectors[n:, order]
    return u * root, (v * root).T


def assert_equal_up_to_signs(B, A, expected_B, expected_A, tolerance):
    """Component by component: one sign for a column of B and its row of A."""
    signs = np.sign((B * expected_B).sum(0))
    assert np.linalg.norm(B * signs - expected_B) <= tolerance * np.linalg.norm(expected_B)
    assert np.linalg.norm(A * signs[:, None] - expected_A) <= tolerance * np.linalg.norm(expected_A)


@given(**SHAPES, scaling=st.sampled_from([0.5, 1.0, 4.0]), data=st.data())
@settings(deadline=None, max_examples=60)
def test_milora_is_the_last_r_components(n, m, seed, scaling, data):
    r = data.draw(st.integers(1, min(n, m)))
    W = matrix(n, m, seed)
    got = milora.factors(W, r, scaling=scaling)
    R = min(n, m)
    B, A = components(W, R - r, R)
    product = (scaling * got.B0 @ got.A0).numpy()
    # Relative to W: the smallest components may be nothing.
    assert np.linalg.norm(product - B @ A) <= 1e-10 * np.linalg.norm(W.numpy())
    assert (got.B0.shape, got.A0.shape) == ((n, r), (r, m))


def test_milora_factors_up_to_sign():
    W = matrix(30, 20, 3)
    got = milora.factors(W, 5, scaling=4.0)
    B, A = components(W, 15, 20)
    assert_equal_up_to_signs(got.B0.numpy(), got.A0.numpy(), B / 2, A / 2, 1e-5)


def test_milora_in_float32_is_that_of_float64():
    """Minor components of a float32 weight, whose own SVD in float32 mixes them."""
    W = matrix(96, 64, 5).float()
    got = milora.factors(W, 4)
    B, A = components(W.double(), 60, 64)
    product = got.B0.double().numpy() @ got.A0.double().numpy()
    assert np.linalg.norm(product - B @ A) <= 1e-5 * np.linalg.norm(B @ A)
    assert got.B0.dtype == torch.float32


@given(**SHAPES, gamma=st.sampled_from([1.0, 16.0, 128.0]), normalise=st.booleans(), data=st.data())
@settings(deadline=None, max_examples=60)
def test_lora_one_is_a_rank_r_step_against_the_gradient(n, m, seed, gamma, normalise, data):
    r = data.draw(st.integers(1, min(n, m)))
    G = 0.01 * matrix(n, m, seed)
    got = lora_one.factors(G, r, gamma=gamma, normalise=normalise)
    B, A = components(G, 0, r)
    expected = -(B @ A) / gamma / (np.linalg.norm(G.numpy(), 2) if normalise else 1)
    error = np.linalg.norm((got.B0 @ got.A0).numpy() - expected)
    assert error <= 1e-5 * np.linalg.norm(expected)


def test_lora_one_factors_up_to_sign():
    G = matrix(25, 33, 7)
    got = lora_one.factors(G, 6, gamma=2.0, normalise=False)
    B, A = components(-G, 0, 6)
    assert_equal_up_to_signs(got.B0.numpy(), got.A0.numpy(), B / np.sqrt(2), A / np.sqrt(2), 1e-5)


def test_lora_one_does_not_see_the_gradients_scale():
    G = matrix(12, 9, 1)
    one, other = lora_one.factors(G, 3), lora_one.factors(1e-6 * G, 3)
    torch.testing.assert_close(one.B0 @ one.A0, other.B0 @ other.A0, rtol=1e-10, atol=0)


def test_pissa_and_milora_share_w_at_full_rank():
    W = matrix(10, 14, 2)
    start = milora.factors(W, 10)
    assert nu_product(start.B0, start.A0) == pytest.approx(float(W.square().mean()), rel=1e-10)


@pytest.mark.parametrize("scheme", [milora, lora_one])
def test_bad_input_is_refused(scheme):
    W = matrix(6, 4, 0)
    for r in (0, 5, -1):
        with pytest.raises(ValueError, match=r"expected 1 ≤ r ≤ min\(n, m\) = 4"):
            scheme.factors(W, r)
    with pytest.raises(ValueError, match="expected a matrix"):
        scheme.factors(W[0], 1)
    with pytest.raises(TypeError, match="floating"):
        scheme.factors(W.long(), 2)
    broken = W.clone()
    broken[2, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN or Inf"):
        scheme.factors(broken, 2)


def test_parameters_of_the_schemes_are_checked():
    W = matrix(6, 4, 0)
    with pytest.raises(ValueError, match="scaling > 0"):
        milora.factors(W, 2, scaling=0)
    with pytest.raises(ValueError, match="gamma > 0"):
        lora_one.factors(W, 2, gamma=-1)
    with pytest.raises(ValueError, match="all zero"):
        lora_one.factors(torch.zeros(6, 4), 2)
