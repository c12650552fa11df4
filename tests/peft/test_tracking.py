"""`gain=track:NAME`: LoRAM's B⁰A⁰ has the magnitude that the reference itself gives its own."""

import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, LoraGAConfig, PeftModel, get_peft_model
from peft.tuners.lora.config import CordaConfig
from small import (
    GPT2_TARGETS,
    base_stays,
    logits,
    lora_layers,
    nothing_changes,
    train,
)
from torch import Tensor, nn

from loram import LoramError, calibrate
from loram.magnitude import nu_product
from loram.methods import custom, named
from loram.peft import parse
from loram.peft.attach import attach
from loram.peft.calibration import COVARIANCE, GRADIENT
from loram.peft.layers import deviations
from loram.peft.spec import REFERENCES
from loram.train import smollm2
from loram.train.model import load_pretrained

TARGETS = ["q_proj", "k_proj", "down_proj"]
DATA = {"corda": "inputs", "lora_ga": "gradients", "lora_one": "gradients"}
EXACT = ("pissa", "milora", "olora", "corda", "lora_one")  # the rest draw random numbers


def batch(ids: Tensor) -> dict[str, Tensor]:
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def config(init: str, **settings: Any) -> LoraConfig:
    own: dict[str, Any] = {
        "corda": {"corda_config": CordaConfig()},
        "lora_ga": {"lora_ga_config": LoraGAConfig()},
    }.get(init, {})
    defaults = {"r": 4, "lora_alpha": 4, "target_modules": TARGETS}
    return LoraConfig(init_lora_weights=init, **(defaults | own | settings))


def adapted(make: Any, ids: Tensor, init: str, **settings: Any) -> PeftModel:
    """Calibrated, if it has to be; by PEFT's public functions alone."""
    base, asked = make(), config(init, **settings)
    calibrate(base, asked, [batch(ids)])
    torch.manual_seed(7)
    return get_peft_model(base, asked)


def reference_nu(model: nn.Module) -> dict[str, float]:
    """ν[BA] of a reference, by layer."""
    return {
        name: nu_product(layer.lora_B["default"].weight, layer.lora_A["default"].weight)
        for name, layer in layers(model)
    }


def loram_nu(model: nn.Module) -> dict[str, float]:
    """ν[B⁰A⁰] of LoRAM in the deviation form, whose B⁰A⁰ is no parameter."""
    found = {}
    for name, layer in layers(model):
        anchor = deviations(layer, "default").anchor
        beta, n, m = anchor.beta.double(), anchor.phi_out.shape[0], anchor.phi_in.shape[0]
        product = beta**2 * anchor.phi_out.double() @ anchor.phi_in.double().T
        found[name] = float(product.square().sum() / (n * m))
    return found


def layers(model: nn.Module):
    return [(name, m) for name, m in model.named_modules() if m in set(lora_layers(model))]


def assert_tracks(make: Any, ids: Tensor, reference: str, tolerance: float, **settings) -> None:
    got = loram_nu(adapted(make, ids, f"loram(gain=track:{reference})", **settings))
    expected = reference_nu(adapted(make, ids, reference, **settings))
    assert got.keys() == expected.keys()
    assert len(got) > 0
    for name, magnitude in expected.items():
        assert got[name] == pytest.approx(magnitude, rel=tolerance), name


SETTINGS = {
    "s = 1": {},
    "s = 2, ranks": {"lora_alpha": 8, "rank_pattern": {"q_proj": 3, "down_proj": 6}},
    "rslora": {"use_rslora": True},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("reference", EXACT)
def test_magnitude_is_the_references_own_in_every_layer(llama, ids, reference, settings):
    assert_tracks(llama, ids, reference, 1e-6, **settings)


@pytest.mark.parametrize("reference", EXACT)
def test_over_a_bfloat16_base_it_is_that_of_the_rounded_factors(llama, ids, reference):
    assert_tracks(lambda: llama(dtype=torch.bfloat16), ids, reference, 1e-6)


@pytest.mark.parametrize("reference", ["pissa", "milora", "corda", "lora_one"])
def test_conv1d(gpt2, ids, reference):
    targets = {"target_modules": GPT2_TARGETS, "fan_in_fan_out": True}
    assert_tracks(gpt2, ids, reference, 1e-6, **targets)


def test_lora_ga_on_conv1d_is_of_the_right_width(gpt2, ids):
    """PEFT scales B by the fourth root of a Conv1D's *input* width, so ν by its square root."""
    targets: Any = {"target_modules": ["c_attn"], "fan_in_fan_out": True, "r": 8}
    got = loram_nu(adapted(gpt2, ids, "loram(gain=track:lora_ga)", **targets))
    theirs = reference_nu(adapted(gpt2, ids, "lora_ga", **targets))
    for name, magnitude in theirs.items():
        assert got[name] == pytest.approx(magnitude * (96 / 32) ** 0.5, rel=1e-5)


def test_olora_on_conv1d_is_of_the_right_weight(gpt2, ids):
    """PEFT's own factorises the transpose there."""
    targets: Any = {"target_modules": ["c_attn"], "fan_in_fan_out": True}
    model = adapted(gpt2, ids, "loram(gain=track:olora)", **targets)
    got = loram_nu(model)
    for name, layer in layers(model):
        Q, R = np.linalg.qr(layer.get_base_layer().weight.detach().double().numpy().T)
        expected = np.square(Q[:, :4] @ R[:4]).mean()
        assert got[name] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("reference", ["pissa_niter_16", "lora_ga"])
def test_randomised_references_agree_draw_by_draw(llama, ids, reference):
    """One layer, so that both see the same draw; all layers to what another draw changes."""
    assert_tracks(llama, ids, reference, 1e-6, target_modules=["layers.1.mlp.down_proj"])
    assert_tracks(llama, ids, reference, 0.02)


def test_all_references_were_tried():
    assert {*EXACT, "pissa_niter_16", "lora_ga"} == set(REFERENCES)


@pytest.mark.parametrize("reference", REFERENCES)
def test_base_random_numbers_and_first_output_are_untouched(llama, ids, reference):
    base = llama()
    expected, asked = logits(base, ids), config(f"loram(gain=track:{reference})")
    calibrate(base, asked, [batch(ids)])
    other = llama()
    torch.manual_seed(11)
    get_peft_model(other, config("loram"))
    plain = torch.rand(3)  # as LoRAM without tracking leaves the stream
    torch.manual_seed(11)
    with base_stays(base):
        model = get_peft_model(base, asked)
        assert torch.equal(torch.rand(3), plain)
        assert torch.equal(logits(model, ids), expected)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", ["lora_ga", "corda", "lora_one"])
def test_attach_leaves_nothing_of_the_calibration_behind(llama, ids, name, residual):
    init = f"loram{'_residual' if residual else ''}(gain=track:{name})"
    row = custom(init, rewrites=residual, tracked=name)
    model, used = attach(llama(), row, rank=4, alpha=4, calibration=[batch(ids)])
    assert used.examples == 3
    left = [n for m in model.modules() for n in (COVARIANCE, GRADIENT) if n in vars(m)]
    assert left == []


def test_the_residual_form_tracks_too(llama, ids):
    model = adapted(llama, ids, "loram_residual(gain=track:milora)", lora_alpha=8)
    assert reference_nu(model) == pytest.approx(
        reference_nu(adapted(llama, ids, "milora", lora_alpha=8)), rel=1e-5
    )


@pytest.mark.parametrize("basis", ["orthogonal", "gaussian", "etf"])
def test_any_basis_gets_the_magnitude(llama, ids, basis):
    got = loram_nu(adapted(llama, ids, f"loram(gain=track:pissa, basis={basis})"))
    assert got == pytest.approx(reference_nu(adapted(llama, ids, "pissa")), rel=1e-5)


# ---- strings, files, refusals --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lora", "gaussian", "eva", "orthogonal", "true", "log", ""])
def test_a_reference_whose_product_is_zero_is_refused_with_the_list(name):
    with pytest.raises(ValueError, match=re.escape(f"track: and one of {', '.join(REFERENCES)}")):
        parse(f"loram(gain=track:{name})")


@pytest.mark.parametrize("reference", ["pissa", "lora_ga"])
def test_a_saved_adapter_knows_the_string_and_loads_without_the_reference(
    llama, ids, tmp_path, monkeypatch, reference
):
    init = f"loram(gain=track:{reference})"
    model = adapted(llama, ids, init)
    train(model, ids)
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())["init_lora_weights"]
    assert saved == init
    assert parse(saved).tracked == reference

    def never(*args: Any, **kwargs: Any) -> float:
        raise AssertionError("a gain was evaluated")

    monkeypatch.setattr("loram.peft.start.reference_magnitude", never)
    for low in (False, True):
        loaded = PeftModel.from_pretrained(llama(), tmp_path, low_cpu_mem_usage=low)
        assert torch.equal(logits(loaded, ids), logits(model, ids))
        assert loram_nu(loaded) == loram_nu(model)


@pytest.mark.parametrize("reference", DATA)
def test_without_data_the_error_says_what_to_call_and_nothing_changes(llama, reference):
    model = llama()
    with (
        nothing_changes(model),
        pytest.raises(
            LoramError, match=r"layers\.0.*call loram\.calibrate\(model, config, batches"
        ),
    ):
        get_peft_model(model, config(f"loram(gain=track:{reference})"))


def test_a_calibration_of_another_rank_is_refused_by_layer(llama, ids):
    model = llama()
    calibrate(model, config("loram(gain=track:corda)", r=3), [batch(ids)])
    with nothing_changes(model), pytest.raises(LoramError, match=r"layers\.0.*mismatch"):
        get_peft_model(model, config("loram(gain=track:corda)", r=4))


@pytest.mark.parametrize("reference", ["pissa", "pissa_niter_16", "milora", "olora"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda weight: weight.__setitem__((1, 1), torch.nan), "NaN or Inf"),
        (lambda weight: weight.zero_(), "stay, at zero"),
    ],
)
def test_weights_without_a_reference_are_refused_by_layer(llama, reference, spoil, message):
    model = llama()
    with torch.no_grad():
        spoil(model.model.layers[1].mlp.down_proj.weight)
    with (
        nothing_changes(model),
        pytest.raises(LoramError, match=rf"layers\.1\.mlp\.down_proj: .*{message}") as refusal,
    ):
        get_peft_model(model, config(f"loram(gain=track:{reference})"))
    assert str(refusal.value).count("_proj") == 1


@pytest.mark.parametrize("reference", ["pissa", "pissa_niter_16", "milora", "olora"])
def test_a_rank_above_the_weights_is_refused_by_layer(llama, reference):
    model = llama()
    with (
        nothing_changes(model),
        pytest.raises(LoramError, match=r"k_proj: .*1 ≤ r ≤ min\(n, m\) = 16.*got r = 20"),
    ):
        get_peft_model(model, config(f"loram(gain=track:{reference})", r=20))


def test_rows_of_the_table_are_these(llama, ids):
    for name in ("pissa", "milora"):
        row = named(f"loram-track-{name}")
        model, _ = attach(llama(), row, rank=4, alpha=4, target_modules="q_proj")
        expected = reference_nu(adapted(llama, ids, name, target_modules=["q_proj"]))
        assert list(loram_nu(model).values()) == pytest.approx(list(expected.values()), rel=1e-6)


@pytest.mark.model
def test_loram_tracking_pissa_on_smollm2():
    """The paper's §4.3 on a real model: every layer's ν[B⁰A⁰] is that of PEFT's PiSSA."""
    missing = smollm2.available()
    if missing is not None:
        pytest.skip(missing)
    ids = torch.arange(1, 9)[None]
    settings = {"r": 16, "lora_alpha": 16, "target_modules": ["q_proj", "k_proj"]}
    assert_tracks(
        lambda: load_pretrained("smollm2", torch.float32).model, ids, "pissa", 1e-6, **settings
    )
