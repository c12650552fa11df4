"""β against an independent float64 oracle, and an answer for every case of no β."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loram.bases import BASES, basis
from loram.magnitude import nu, nu_product
from loram.schemes import DeadAdapterError, factors


def oracle(W, r, gain, statistic, n_basis=None, m_basis=None):
    """β by dense NumPy in float64, sharing no code with the library."""
    W = W.double().numpy()
    n, m = W.shape
    if gain == "log":
        q = 1.0 if r == min(n, m) else math.log(r) / math.log(min(n, m))
    elif gain == "spectral":
        sigma = np.linalg.svd(W, compute_uv=False)
        q = sigma[:r].sum() ** 2 / (r * (sigma**2).sum())
    else:
        q = gain
    if n_basis is None:
        i, j = np.arange(1, max(n, m) + 1)[:, None], np.arange(1, r + 1)[None, :]
        n_basis = (np.sqrt(2 / (n + 1)) * np.sin(i * j * np.pi / (n + 1)))[:n]
        m_basis = (np.sqrt(2 / (m + 1)) * np.sin(i * j * np.pi / (m + 1)))[:m]
    product = n_basis @ m_basis.T
    measure = np.var if statistic == "var" else lambda X: np.mean(X**2)
    return (q * measure(W) / measure(product)) ** 0.25


@given(
    n=st.integers(2, 90),
    m=st.integers(2, 90),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1e-3, 0.02, 1.0, 30.0]),
    gain=st.sampled_from(["log", "spectral", 0.3]),
    statistic=st.sampled_from(["mean_square", "var"]),
    data=st.data(),
)
@settings(deadline=None, max_examples=200)
def test_beta_is_eq_11(n, m, seed, scale, gain, statistic, data):
    r = data.draw(st.integers(2, min(n, m)))
    W = scale * torch.randn(n, m, generator=torch.Generator().manual_seed(seed))
    got = factors(W, r, gain=gain, statistic=statistic)
    assert got.beta == pytest.approx(oracle(W, r, gain, statistic), rel=1e-6)


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("gain", ["log", "spectral", 0.4])
def test_the_starting_product_has_the_gain_times_the_weights_magnitude(name, gain):
    W = torch.randn(60, 45, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    start = factors(W, 9, basis=name, gain=gain, seed=3)
    q = {"log": math.log(9) / math.log(45), 0.4: 0.4}.get(gain)
    if q is None:
        sigma = torch.linalg.svdvals(W)
        q = float(sigma[:9].sum() ** 2 / (9 * sigma.square().sum()))
    assert nu_product(start.B0, start.A0) == pytest.approx(q * nu(W), rel=1e-9)
    torch.testing.assert_close(start.B0, start.beta * basis(name, 60, 9, seed=3, dtype=W.dtype))


@pytest.mark.parametrize(
    ("r", "ratio"), [(1, 1.31), (2, 1.10), (8, 1.03), (16, 1.015), (128, 1.002)]
)
def test_the_authors_variance_gives_a_larger_beta_at_small_rank(r, ratio):
    W = torch.randn(400, 300, generator=torch.Generator().manual_seed(0))
    a, b = (factors(W, r, gain=0.5, statistic=s).beta for s in ("var", "mean_square"))
    assert a / b == pytest.approx(ratio, abs=0.006)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_factors_are_float32_or_the_weights_float64_and_the_weight_is_only_read(dtype):
    W = torch.randn(20, 30).to(dtype)
    before = W.clone()
    start = factors(W, 4)
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    assert (start.B0.dtype, start.A0.dtype) == (wanted, wanted)
    assert (start.B0.shape, start.A0.shape) == ((20, 4), (4, 30))
    assert torch.equal(W, before)


def test_a_weight_with_one_row_starts_at_gain_1():
    W = torch.randn(1, 30)
    start = factors(W, 1)
    assert nu_product(start.B0, start.A0) == pytest.approx(nu(W), rel=1e-6)


W = torch.ones(6, 5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: factors(W, 1), DeadAdapterError, "gain is zero at rank 1"),
        (lambda: factors(W * 0, 2), DeadAdapterError, "all zero"),
        (lambda: factors(W, 2, statistic="var"), DeadAdapterError, "constant"),
        (lambda: factors(W * float("nan"), 2), ValueError, "NaN or Inf"),
        (lambda: factors(W * float("inf"), 2, gain="spectral"), ValueError, "NaN or Inf"),
        (lambda: factors(W, 6), ValueError, r"min\(n, m\) = 5 for a weight \(6, 5\), got r = 6"),
        (lambda: factors(W, 0), ValueError, "got r = 0"),
        (lambda: factors(W[0], 1), ValueError, "expected a matrix"),
        (lambda: factors(W.int(), 2), TypeError, "int32"),
        (lambda: factors(W, 2, gain="linear"), ValueError, "log, spectral or a finite number"),
        (lambda: factors(W, 2, gain=-1.0), ValueError, "got -1.0"),
        (lambda: factors(W, 2, basis="fourier"), ValueError, "unknown basis"),
        (lambda: factors(W, 2, statistic="mean"), ValueError, "unknown statistic"),
        (lambda: factors(W, 1, basis="etf", gain=0.5), ValueError, "r ≥ 2"),
    ],
)
def test_no_beta_is_a_clear_error(call, error, message):
    with pytest.raises(error, match=message):
        call()
