"""Magnitudes against dense float64 oracles, also where a naive formula cancels."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loram.magnitude import (
    log_gain,
    nu,
    nu_product,
    nu_update,
    spectral_concentration,
    spectral_gain,
)

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 8), st.integers(0, 999))


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("shape", [(1,), (3, 5), (1023, 1025), (2, 3, 4), (4096,), (4097,)])
def test_nu_is_the_mean_square(dtype, shape):
    X = draw(*shape).to(dtype)
    assert nu(X) == pytest.approx(float(X.double().square().mean()), rel=2e-7)


def test_nu_of_a_transposed_or_strided_weight_is_the_same():
    X = draw(300, 200, dtype=torch.float32)
    assert nu(X.T) == pytest.approx(nu(X), rel=1e-12)
    assert nu(X[::2, ::3]) == pytest.approx(float(X[::2, ::3].double().square().mean()), rel=1e-7)


def test_nu_does_not_lose_digits_on_a_large_weight():
    X = draw(4096, 1024, dtype=torch.float32)
    assert nu(X) == pytest.approx(float(X.double().square().mean()), rel=1e-7)


@given(sizes)
@settings(deadline=None)
def test_nu_product_is_nu_of_the_product(size):
    n, m, r, seed = size
    B, A = draw(n, r, seed=seed), draw(r, m, seed=seed + 1)
    assert nu_product(B, A) == pytest.approx(nu(B @ A), rel=1e-10)


@given(sizes, st.sampled_from([1.0, 1e-2, 1e-5, 1e-8]), st.sampled_from([1.0, 0.25, 4.0]))
@settings(deadline=None)
def test_nu_update_does_not_cancel(size, smallness, s):
    n, m, r, seed = size
    B0, A0 = draw(n, r, seed=seed), draw(r, m, seed=seed + 1)
    dB, dA = smallness * draw(n, r, seed=seed + 2), smallness * draw(r, m, seed=seed + 3)
    oracle = float((s * (dB @ (A0 + dA) + B0 @ dA)).square().mean())
    B, A = B0 + dB, A0 + dA
    assert nu_update(B, A, B0, A0, s) == pytest.approx(oracle, rel=1e-6, abs=1e-30)


def test_nu_update_is_right_in_float32_where_gram_products_are_all_wrong():
    n, m, r = 400, 300, 16
    B0, A0 = (0.1 * draw(*shape, dtype=torch.float32) for shape in ((n, r), (r, m)))
    B = B0 * (1 + 1e-5 * draw(n, r, seed=2, dtype=torch.float32))
    A = A0 * (1 + 1e-5 * draw(r, m, seed=3, dtype=torch.float32))
    oracle = nu(B.double() @ A.double() - B0.double() @ A0.double())
    naive = nu_product(B, A) + nu_product(B0, A0)
    naive -= 2 * float(((B.T @ B0) * (A @ A0.T)).sum()) / (n * m)
    assert abs(naive / oracle - 1) > 0.1
    assert nu_update(B, A, B0, A0) == pytest.approx(oracle, rel=1e-5)


@given(sizes)
@settings(deadline=None)
def test_the_spectral_gain_is_r_rho_over_R_and_matches_pissa(size):
    n, m, r, seed = size
    r = min(r, n, m)
    W = draw(n, m, seed=seed)
    q, rho = spectral_gain(W, r), spectral_concentration(W, r)
    assert q == pytest.approx(r * rho / min(n, m), rel=1e-12)
    assert 0 < q <= 1 + 1e-12
    u, sigma, vh = torch.linalg.svd(W, full_matrices=False)
    root = sigma[:r].sqrt()
    A, B = root[:, None] * vh[:r], u[:, :r] * root
    # Eq. 9, with R = min(n, m), and eq. 10's k₁ = r(m ν[A]² + n ν[B]²).
    assert nu(A) == pytest.approx(math.sqrt(n * rho * nu(W) / (m * min(n, m))), rel=1e-9)
    assert nu(B) == pytest.approx(math.sqrt(m * rho * nu(W) / (n * min(n, m))), rel=1e-9)
    k1 = r * (m * nu(A) ** 2 + n * nu(B) ** 2)
    assert k1 == pytest.approx(q * (m + n) * nu(W), rel=1e-9)


@given(sizes)
@settings(deadline=None, max_examples=40)
def test_spectral_concentration_decreases_in_rank(size):
    n, m, _, seed = size
    W = draw(n, m, seed=seed)
    values = [spectral_concentration(W, r) for r in range(1, min(n, m) + 1)]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(values))


def test_log_gain_at_its_ends():
    assert log_gain(400, 300, 1) == 0
    assert log_gain(400, 300, 300) == 1
    assert log_gain(1, 300, 1) == 1  # full rank, where the formula reads 0/0
    assert log_gain(4096, 11008, 16) == pytest.approx(math.log(16) / math.log(4096))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nu(torch.zeros(0)), ValueError, "without entries"),
        (lambda: nu(torch.zeros(3, dtype=torch.int8)), TypeError, "int8"),
        (lambda: nu_product(draw(3, 2), draw(3, 4)), ValueError, r"got B \(3, 2\) and A \(3, 4\)"),
        (
            lambda: nu_update(draw(3, 2), draw(2, 4), draw(3, 1), draw(1, 4)),
            ValueError,
            "equal shapes",
        ),
        (lambda: spectral_gain(torch.zeros(3, 4), 2), ValueError, "all-zero"),
        (lambda: spectral_gain(draw(3, 4), 4), ValueError, "got r = 4"),
        (lambda: spectral_concentration(draw(3), 1), ValueError, "expected a matrix"),
        (lambda: log_gain(3, 4, 0), ValueError, "got r = 0"),
    ],
)
def test_bad_input_says_what_was_expected(call, error, message):
    with pytest.raises(error, match=message):
        call()
