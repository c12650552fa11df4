"""Bases against high precision, their invariants, and golden hashes of the random ones."""

import hashlib

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loram.bases import BASES, basis, dst, etf, gaussian, orthogonal, stream


def test_dst_is_orthonormal_at_llama_width():
    phi = dst(11008, 128).double()
    deviation = (phi.T @ phi - torch.eye(128, dtype=torch.float64)).abs().max()
    assert deviation <= 1e-7


@pytest.mark.parametrize(("n", "r"), [(1, 1), (2, 2), (7, 7), (576, 16), (11008, 128)])
def test_every_dst_entry_is_eq_12_within_one_ulp(n, r):
    phi = dst(n, r).numpy()
    rows = sorted({0, 1, n // 3, n // 2, n - 1} & set(range(n)))
    with mpmath.workdps(40):
        scale = mpmath.sqrt(mpmath.mpf(2) / (n + 1))
        for i in rows:
            for j in range(r):
                exact = scale * mpmath.sin(mpmath.mpf((i + 1) * (j + 1)) * mpmath.pi / (n + 1))
                ulp = np.spacing(np.float32(max(abs(float(exact)), 1e-30)))
                assert abs(mpmath.mpf(float(phi[i, j])) - exact) <= ulp


def test_dst_is_exactly_zero_where_the_sine_is():
    phi = dst(3, 3, dtype=torch.float64)  # sin(2·2π/4) = sin(π)
    assert phi[1, 1] == 0


@given(n=st.integers(1, 90), data=st.data())
@settings(deadline=None)
def test_the_full_dst_is_symmetric_and_orthogonal(n, data):
    r = data.draw(st.integers(1, n))
    full = dst(n, n, dtype=torch.float64)
    assert torch.equal(full, full.T)
    torch.testing.assert_close(full @ full, torch.eye(n, dtype=torch.float64), rtol=0, atol=1e-13)
    assert torch.equal(dst(n, r, dtype=torch.float64), full[:, :r])


@pytest.mark.parametrize("name", [name for name, entry in BASES.items() if entry.nested])
@given(n=st.integers(2, 60), data=st.data())
@settings(deadline=None, max_examples=30)
def test_a_column_never_depends_on_the_rank(name, n, data):
    r = data.draw(st.integers(1, n - 1))
    assert torch.equal(basis(name, n, n, seed=5)[:, :r], basis(name, n, r, seed=5))


@given(n=st.integers(1, 200), seed=st.integers(0, 2**31 - 1), data=st.data())
@settings(deadline=None, max_examples=40)
def test_orthogonal_columns_are_orthonormal(n, seed, data):
    r = data.draw(st.integers(1, n))
    phi = orthogonal(n, r, generator=stream(seed), dtype=torch.float64)
    torch.testing.assert_close(phi.T @ phi, torch.eye(r, dtype=torch.float64), rtol=0, atol=1e-12)


def test_orthogonal_columns_keep_the_direction_of_their_draw():
    drawn = gaussian(40, 6, generator=stream(3), dtype=torch.float64)
    phi = orthogonal(40, 6, generator=stream(3), dtype=torch.float64)
    assert bool(((drawn * phi).sum(0) > 0).all())


def test_gaussian_entries_have_mean_0_and_variance_1_over_n():
    phi = gaussian(4000, 50, generator=stream(11), dtype=torch.float64) * 4000**0.5
    assert abs(float(phi.mean())) < 5 / phi.numel() ** 0.5
    assert abs(float(phi.square().mean()) - 1) < 5 * (2 / phi.numel()) ** 0.5
    assert abs(float(phi.pow(4).mean()) - 3) < 5 * (96 / phi.numel()) ** 0.5


@pytest.mark.parametrize(("n", "r"), [(2, 2), (5, 3), (64, 16), (64, 64)])
def test_etf_columns_are_unit_and_equiangular(n, r):
    phi = etf(n, r, generator=stream(1), dtype=torch.float64)
    gram = torch.full((r, r), -1 / (r - 1), dtype=torch.float64).fill_diagonal_(1)
    torch.testing.assert_close(phi.T @ phi, gram, rtol=0, atol=1e-12)


def test_the_two_sides_of_a_random_basis_differ():
    assert not torch.equal(basis("gaussian", 8, 3, side=0), basis("gaussian", 8, 3, side=1))
    assert torch.equal(basis("dst", 8, 3, side=0), basis("dst", 8, 3, side=1))


GOLDEN = {
    "dst": "7d5945b33815",
    "orthogonal": "df7e83de49c8",
    "gaussian": "e9f7815c59e7",
    "etf": "4bc37b2d31de",
}


@pytest.mark.parametrize("name", BASES)
def test_a_seed_names_the_same_basis_for_ever(name):
    # On 20 bits of each entry: the last bits of sin and log differ between maths libraries.
    phi = basis(name, 48, 8, seed=7, dtype=torch.float64).numpy()
    digest = hashlib.sha256(np.rint(phi * 2**20).astype("<i8").tobytes()).hexdigest()
    assert digest[:12] == GOLDEN[name]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dst(4, 5), "1 to 4 columns, got r = 5"),
        (lambda: dst(4, 0), "got r = 0"),
        (lambda: etf(4, 1, generator=stream(0)), "r ≥ 2"),
        (lambda: basis("fourier", 4, 2), "expected one of dst, orthogonal, gaussian, etf"),
    ],
)
def test_bad_shapes_and_names_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
