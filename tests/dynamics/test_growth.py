"""Proposition 2 against simulations under its own assumption: independent gradients."""

import math

import numpy as np
import pytest

from loram.dynamics import Start, k1, linearised, magnitudes, slope

SIZES = {"n": 120, "m": 200, "r": 10}
RATE, GRADIENT = 8e-4, 4.0


def factor(rng, rows, columns, nu, shape):
    """(rows, columns) with mean square nu; orthonormal along the longer side if so asked."""
    if shape == "gaussian" or nu == 0:
        return rng.normal(0, math.sqrt(nu), (rows, columns))
    Q = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))[0]
    return math.sqrt(nu * max(rows, columns)) * (Q if rows >= columns else Q.T)


def simulate(start, lr_A, lr_B, steps, seed):
    """ν[A], ν[B], ν[W_LoRA] after each of the steps, with G drawn anew at every one."""
    rng = np.random.default_rng(seed)
    A = factor(rng, start.r, start.m, start.nu_A, start.shape)
    B = factor(rng, start.n, start.r, start.nu_B, start.shape)
    origin, seen = B @ A, {}
    for t in range(max(steps) + 1):
        if t in steps:
            update = start.scaling * (B @ A - origin)
            seen[t] = ((A**2).mean(), (B**2).mean(), (update**2).mean())
        G = rng.normal(0, math.sqrt(GRADIENT), (start.n, start.m))
        A, B = A - lr_A * start.scaling * B.T @ G, B - lr_B * start.scaling * G @ A.T
    return np.array([seen[t] for t in steps])


STARTS = {
    "lora": Start(**SIZES, nu_A=1 / 200, nu_B=0.0),
    "balanced": Start(**SIZES, nu_A=1 / 200, nu_B=1 / 120),
    "scaled": Start(**SIZES, nu_A=1 / 400, nu_B=1 / 500, scaling=2.0),
    "orthonormal": Start(**SIZES, nu_A=1 / 200, nu_B=1 / 120, shape="orthonormal"),
}


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("ratio", [1.0, 3.0])
def test_growth_is_what_is_measured(name, ratio):
    start, steps = STARTS[name], [10, 40, 100]
    runs = np.mean([simulate(start, RATE, ratio * RATE, steps, seed) for seed in range(5)], axis=0)
    predicted = magnitudes(start, gradient=GRADIENT, lr_A=RATE, lr_B=ratio * RATE, steps=steps)
    np.testing.assert_allclose(np.array(predicted), runs, rtol=0.05)


@pytest.mark.parametrize("name", STARTS)
def test_the_measured_slope(name):
    """The target of 5 %, at the very start, where the slope is the line's."""
    start = STARTS[name]
    small = 1e-4
    runs = np.mean([simulate(start, small, small, [20], seed) for seed in range(5)], axis=0)[0, 2]
    line = linearised(start, gradient=GRADIENT, lr_A=small, lr_B=small, steps=[20])[0].update
    assert line == pytest.approx(runs, rel=0.05)


def test_closed_form_is_the_recurrence():
    start = STARTS["scaled"]
    nu_A, nu_B = start.nu_A, start.nu_B
    lr_A, lr_B = 2e-3, 5e-3
    for t, predicted in enumerate(
        magnitudes(start, gradient=GRADIENT, lr_A=lr_A, lr_B=lr_B, steps=range(300))
    ):
        assert predicted[:2] == pytest.approx((nu_A, nu_B), rel=1e-12), t
        nu_A, nu_B = (
            nu_A + start.scaling**2 * lr_A**2 * start.n * GRADIENT * nu_B,
            nu_B + start.scaling**2 * lr_B**2 * start.m * GRADIENT * nu_A,
        )


def test_a_frozen_factor_is_linear():
    start = STARTS["balanced"]
    frozen = magnitudes(start, gradient=GRADIENT, lr_A=0.0, lr_B=1e-3, steps=[0, 50])
    assert start.nu_A == frozen[1].A
    assert pytest.approx(start.nu_B + 50 * 1e-6 * start.m * GRADIENT * start.nu_A) == frozen[1].B


def test_linearised_is_the_tangent():
    start = STARTS["balanced"]
    for steps in ([1], [3]):
        near = magnitudes(start, gradient=GRADIENT, lr_A=1e-6, lr_B=1e-6, steps=steps)
        line = linearised(start, gradient=GRADIENT, lr_A=1e-6, lr_B=1e-6, steps=steps)
        assert np.array(near) == pytest.approx(np.array(line), rel=1e-6)


def test_k1_is_the_slope_of_large_orthonormal_factors():
    start = Start(n=4000, m=3000, r=4, nu_A=1 / 3000, nu_B=0.0, shape="orthonormal")
    line = slope(start, start.nu_A, 0.0, gradient=GRADIENT, lr_A=RATE, lr_B=RATE)
    assert line == pytest.approx(k1(start) * RATE**2 * GRADIENT, rel=1e-12)
    assert k1(start) == pytest.approx(4 / 3000)  # the paper's r/m of Noise & Zeros


def test_pissa_has_the_papers_k1():
    """k₁ = Q[r](m + n)ν[W] (eq. 9, 10) for factors of the magnitudes of eq. 9."""
    n, m, r, nu_W, rho = 300, 500, 20, 0.02, 3.0
    R = min(n, m)
    start = Start(
        n=n,
        m=m,
        r=r,
        nu_A=math.sqrt(n * rho * nu_W / (m * R)),
        nu_B=math.sqrt(m * rho * nu_W / (n * R)),
    )
    assert k1(start) == pytest.approx(r * rho / R * (m + n) * nu_W)


def test_steps_are_not_negative():
    with pytest.raises(ValueError, match="≥ 0"):
        magnitudes(STARTS["lora"], gradient=1.0, lr_A=1.0, lr_B=1.0, steps=[-1])
