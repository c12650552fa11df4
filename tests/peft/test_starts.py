"""Where adapters start, against what their schemes are defined to be."""

import math

import pytest
import torch
from peft import get_peft_model
from small import LLAMA_TARGETS, lora_config, train

from loram.dynamics import k1
from loram.magnitude import log_gain, nu, spectral_gain
from loram.peft.starts import starts


def weights(model):
    return {
        name: module.weight.detach().clone()
        for name, module in model.named_modules()
        if name.rsplit(".", 1)[-1] in LLAMA_TARGETS
    }


def named(found, W):
    """Pairs of a layer's start and its pretrained weight."""
    assert len(found) == len(W)
    return [(start, W[next(n for n in W if name.endswith(n))]) for name, start in found.items()]


def test_lora_starts_with_a_third_of_one_over_m_and_a_zero_b(llama):
    base = llama()
    W = weights(base)
    for start, weight in named(starts(get_peft_model(base, lora_config(True, r=8))), W):
        n, m = weight.shape
        assert (start.n, start.m, start.r, start.scaling) == (n, m, 8, 1.0)
        assert start.nu_B == 0
        assert start.nu_A == pytest.approx(1 / (3 * m), rel=0.35)  # 8 m uniform numbers
        assert start.shape == "gaussian"


@pytest.mark.parametrize("form", ["loram", "loram_residual"])
def test_loram_starts_where_its_product_has_the_gain(llama, form):
    base = llama()
    W = weights(base)
    for start, weight in named(starts(get_peft_model(base, lora_config(form))), W):
        n, m = weight.shape
        gain = log_gain(n, m, 4)
        # ν[BA] = r ν[B] ν[A] √(nm)… of orthonormal factors: ‖BA‖² = r β⁴.
        beta4 = gain * nu(weight) * n * m / 4
        assert start.nu_A == pytest.approx(math.sqrt(beta4) / m, rel=1e-5)
        assert start.nu_B == pytest.approx(math.sqrt(beta4) / n, rel=1e-5)
        assert start.shape == "orthonormal"


def test_pissa_has_the_spectral_gain_as_its_growth_rate(llama):
    """Equation 10: k₁ = Q[r](m + n)ν[W], up to the spread of the singular values."""
    base = llama()
    W = weights(base)
    for start, weight in named(starts(get_peft_model(base, lora_config("pissa"))), W):
        n, m = weight.shape
        assert k1(start) == pytest.approx(spectral_gain(weight, 4) * (n + m) * nu(weight), rel=1e-4)


def test_olora_starts_with_the_factors_of_qr(llama):
    """B⁰ = Q has unit columns; the rows of A⁰ = R are no multiples of orthonormal ones."""
    base = llama()
    W = weights(base)
    for start, weight in named(starts(get_peft_model(base, lora_config("olora"))), W):
        assert start.nu_A == pytest.approx(nu(torch.linalg.qr(weight)[1][:4]), rel=1e-4)
        assert start.nu_B == pytest.approx(1 / weight.shape[0], rel=1e-4)
        assert start.shape == "gaussian"


def test_a_zero_b_does_not_decide_the_shape(llama):
    model = get_peft_model(llama(), lora_config(True))
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            torch.nn.init.orthogonal_(parameter)
    for start in starts(model).values():
        assert start.shape == "orthonormal"
        assert start.nu_A == pytest.approx(1 / start.m, rel=1e-5)


def test_scaling_is_read(llama):
    model = get_peft_model(llama(), lora_config("loram", lora_alpha=8, use_rslora=True))
    assert {start.scaling for start in starts(model).values()} == {8 / math.sqrt(4)}


def test_ranks_and_scalings_of_their_own(llama):
    settings = {"alpha_pattern": {"q_proj": 12}, "rank_pattern": {"o_proj": 2}}
    model = get_peft_model(llama(), lora_config("loram", **settings))
    for name, start in starts(model).items():
        kind = name.rsplit(".", 1)[1]
        assert (start.r, start.scaling) == {"q_proj": (4, 3.0), "o_proj": (2, 2.0)}.get(
            kind, (4, 1.0)
        )


def test_loram_knows_its_start_also_after_steps(llama, ids):
    model = get_peft_model(llama(), lora_config("loram"))
    before = starts(model)
    train(model, ids)
    assert starts(model) == before


def test_a_named_adapter_and_an_unknown_one(llama):
    model = get_peft_model(llama(), lora_config("loram"))
    model.add_adapter("other", lora_config(True, r=2))
    assert {start.r for start in starts(model, "other").values()} == {2}
    assert {start.r for start in starts(model).values()} == {4}
    with pytest.raises(ValueError, match="missing"):
        starts(model, "missing")


def test_reading_changes_nothing(llama, ids):
    model = get_peft_model(llama(), lora_config("loram"))
    before = {name: p.clone() for name, p in model.named_parameters()}
    starts(model)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
