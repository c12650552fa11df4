"""Where methods start, against closed forms of the pretrained weights."""

import math

import pytest
import torch
from peft import get_peft_model
from small import lora_config, train

from loram.magnitude import log_gain, nu
from loram.peft.starts import starts

R = 4


def weights(model):
    """Layer name → pretrained W (n, m), before an adapter is put on the model."""
    return {
        name: module.weight.detach().double()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }


def started(base, init, **settings):
    """(start, W) of every layer; PiSSA and OLoRA rewrite the base, so W is read first."""
    pretrained = {name: W.clone() for name, W in weights(base).items()}
    found = starts(get_peft_model(base, lora_config(init, **settings)))
    return [(start, pretrained[name]) for name, start in found.items()]


def svd_half(W):
    """ν[A⁰], ν[B⁰] of PiSSA: √Σ on either side."""
    top = float(torch.linalg.svdvals(W)[:R].sum())
    return top / (R * W.shape[1]), top / (R * W.shape[0])


def qr(W):
    """OLoRA: B⁰ = Q, whose columns are unit vectors, and A⁰ = R."""
    return nu(torch.linalg.qr(W)[1][:R]), 1 / W.shape[0]


def balanced(W):
    """LoRAM: A⁰ and B⁰ are multiples β of orthonormal bases, β⁴ r = Q[r] ‖W‖²_F."""
    n, m = W.shape
    beta2 = math.sqrt(log_gain(n, m, R) * float(W.square().sum()) / R)
    return beta2 / m, beta2 / n


@pytest.mark.parametrize(
    ("init", "closed", "shape"),
    [
        ("pissa", svd_half, "gaussian"),  # scaled by √σᵢ each: orthogonal, but not by one scale
        ("olora", qr, "gaussian"),
        ("loram", balanced, "orthonormal"),
        ("loram_residual", balanced, "orthonormal"),
    ],
)
def test_magnitudes_and_shape(llama, init, closed, shape):
    found = started(llama(), init)
    assert len(found) == 10
    for start, W in found:
        assert (start.n, start.m, start.r, start.scaling) == (*W.shape, R, 1.0)
        nu_A, nu_B = closed(W)
        assert start.nu_A == pytest.approx(nu_A, rel=1e-4)
        assert start.nu_B == pytest.approx(nu_B, rel=1e-4)
        assert start.shape == shape


@pytest.mark.parametrize(
    ("init", "size"), [(True, lambda m: 1 / (3 * m)), ("gaussian", lambda m: 1 / R**2)]
)
def test_random_starts_in_the_mean(llama, init, size):
    """Kaiming's uniform ±1/√m, and PEFT's normal of deviation 1/r; B⁰ = 0."""
    found = started(llama(), init)
    ratios = [start.nu_A / size(W.shape[1]) for start, W in found]
    assert sum(ratios) / len(ratios) == pytest.approx(1, rel=0.1)
    assert {start.nu_B for start, _ in found} == {0.0}
    assert {start.shape for start, _ in found} == {"gaussian"}


def test_orthogonal_of_peft_is_gaussian(llama):
    """Its factors are orthogonal to each other, B⁰A⁰ = 0, not orthonormal within."""
    assert {start.shape for start, _ in started(llama(), "orthogonal")} == {"gaussian"}


def test_a_zero_factor_does_not_decide_the_shape(llama):
    """LoRA whose A⁰ has orthonormal rows is orthonormal, whatever its B⁰ = 0."""
    model = get_peft_model(llama(), lora_config(True))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                torch.nn.init.orthogonal_(parameter)
    found = starts(model).values()
    assert {start.shape for start in found} == {"orthonormal"}
    assert all(start.nu_A == pytest.approx(1 / start.m, rel=1e-5) for start in found)


def test_scaling_by_layer(llama):
    settings = {"alpha_pattern": {"q_proj": 12}, "rank_pattern": {"o_proj": 2}}
    model = get_peft_model(llama(), lora_config("loram", **settings))
    for name, start in starts(model).items():
        assert start.scaling == {"q_proj": 3.0, "o_proj": 2.0}.get(name.rsplit(".", 1)[1], 1.0)
        assert start.r == (2 if name.endswith("o_proj") else 4)


def test_of_loram_the_start_also_after_steps(llama, ids):
    model = get_peft_model(llama(), lora_config("loram"))
    before = starts(model)
    train(model, ids)
    assert starts(model) == before


def test_no_such_adapter(llama):
    with pytest.raises(ValueError, match="other"):
        starts(get_peft_model(llama(), lora_config("loram")), "other")
