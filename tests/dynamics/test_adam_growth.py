"""Our extension to Adam, against torch's own Adam on gradients that are drawn, not computed."""

import math

import pytest
import torch

from loram.dynamics import Start, matched_rate
from loram.dynamics.adam import drift, rate_for, update

N, STEPS = 20_000, 400


def walk(gradients, lr, steps):
    """ν of a parameter after `steps` steps of Adam on gradients(t)."""
    parameter = torch.zeros(N, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([parameter], lr=lr)
    for t in range(steps):
        parameter.grad = gradients(t)
        optimizer.step()
    return float(parameter.detach().square().mean())


def test_persistent_gradients_walk_straight_on():
    fixed = torch.randn(N, dtype=torch.float64) + 1e-3
    moved = walk(lambda t: fixed, 1e-3, 100)
    assert moved == pytest.approx(drift([1e-3] * 100, persistence=1.0), rel=1e-3)


def test_the_size_of_the_gradient_does_not_matter():
    fixed = torch.randn(N, dtype=torch.float64)
    assert walk(lambda t: fixed, 1e-3, 50) == pytest.approx(
        walk(lambda t: 1e3 * fixed, 1e-3, 50), rel=1e-3
    )


def test_independent_gradients_are_a_random_walk():
    generator = torch.Generator().manual_seed(0)
    moved = walk(lambda t: torch.randn(N, generator=generator, dtype=torch.float64), 1e-3, STEPS)
    # 1.0 to 1.4 times η²t: the first steps are larger than the long run's, since v is still short.
    assert 1.0 <= moved / drift([1e-3] * STEPS, persistence=0.0) <= 1.4


def test_a_single_late_step_of_independent_gradients():
    """ν = η²(1 − β₁)/(1 + β₁)."""
    generator = torch.Generator().manual_seed(0)
    parameter = torch.zeros(N, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([parameter], lr=1.0, betas=(0.9, 0.999))
    for _ in range(3000):
        before = parameter.detach().clone()
        parameter.grad = torch.randn(N, generator=generator, dtype=torch.float64)
        optimizer.step()
    step = float((parameter.detach() - before).square().mean())
    assert step == pytest.approx(0.1 / 1.9, rel=0.05)


def test_the_update_of_independent_factors():
    """Random A⁰, B⁰, dA, dB: ν[s(B⁰dA + dB A⁰ + dB dA)]."""
    n, m, r, s = 300, 500, 12, 2.0
    generator = torch.Generator().manual_seed(1)

    def normal(rows, columns, nu):
        noise = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
        return math.sqrt(nu) * noise

    start = Start(n=n, m=m, r=r, nu_A=1 / m, nu_B=0.5 / n, scaling=s)
    D = 4e-4
    A, B = normal(r, m, start.nu_A), normal(n, r, start.nu_B)
    dA, dB = normal(r, m, D), normal(n, r, 9 * D)
    measured = float((s * (B @ dA + dB @ A + dB @ dA)).square().mean())
    assert update(start, D, ratio=3.0) == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize("target", [1e-12, 1e-6, 1e-2])
@pytest.mark.parametrize("ratio", [1.0, 4.0])
def test_rate_for_inverts_update(target, ratio):
    start = Start(n=30, m=50, r=4, nu_A=1e-3, nu_B=2e-3, scaling=2.0)
    shape = drift([1.0, 0.5, 0.25], persistence=0.3)
    rate = rate_for(start, target, shape=shape, ratio=ratio)
    assert update(start, shape * rate**2, ratio=ratio) == pytest.approx(target, rel=1e-12)


def test_matched_rate_is_matched():
    lora = [Start(n=64, m=m, r=8, nu_A=1 / (3 * m), nu_B=0.0) for m in (64, 256)]
    loram = [Start(n=64, m=m, r=8, nu_A=4 / m, nu_B=4 / 64) for m in (64, 256)]
    rate = matched_rate(loram, lora, 1e-3, steps=50)
    assert rate < 1e-3
    assert matched_rate(lora, loram, rate, steps=50) == pytest.approx(1e-3, rel=1e-9)
    means = [
        math.fsum(math.log(update(layer, 2500 * eta**2)) for layer in layers)
        for layers, eta in ((lora, 1e-3), (loram, rate))
    ]
    assert means[0] == pytest.approx(means[1])


def test_matched_rate_under_sgd_is_the_square_root_of_the_slopes():
    one = [Start(n=64, m=64, r=8, nu_A=1 / 64, nu_B=0.0, shape="orthonormal")]
    four = [Start(n=64, m=64, r=8, nu_A=2 / 64, nu_B=0.0, shape="orthonormal")]
    assert matched_rate(four, one, 1e-2, optimizer="sgd") == pytest.approx(0.5e-2)


def test_full_fine_tuning_as_the_reference():
    """ΔW moves as any parameter does: ν[ΔW] = D, so the rate solves s²r(σ²D′ + D′²) = D."""
    layer = [Start(n=64, m=64, r=8, nu_A=1 / 64, nu_B=1 / 64)]
    rate = matched_rate(layer, None, 1e-4, steps=30, persistence=0.5)
    shape = drift([1.0] * 30, persistence=0.5)
    assert update(layer[0], shape * rate**2) == pytest.approx(shape * 1e-8, rel=1e-9)


def test_scaling_changes_the_rate_as_proposition_1_says():
    """Noise & Zeros at s = 4 needs a quarter of the rate of B, to first order."""
    one = [Start(n=64, m=64, r=8, nu_A=1.0, nu_B=0.0)]
    four = [Start(n=64, m=64, r=8, nu_A=1.0, nu_B=0.0, scaling=4.0)]
    assert matched_rate(four, one, 1e-6, steps=10) == pytest.approx(0.25e-6, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: drift([1.0], persistence=1.5), "persistence in"),
        (lambda: rate_for(Start(n=2, m=2, r=1, nu_A=1, nu_B=0), 0.0, shape=1.0), "target and"),
        (lambda: matched_rate([], None, 1.0), "expected the layers"),
        (
            lambda: matched_rate([Start(n=2, m=2, r=1, nu_A=1, nu_B=0)], [], 1.0),
            "expected the layers",
        ),
        (
            lambda: matched_rate(
                [Start(n=2, m=2, r=1, nu_A=0, nu_B=0)], None, 1.0, optimizer="sgd"
            ),
            "never moves",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
