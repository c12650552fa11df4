"""Making other adapters out of LoRAM ones: conversion to plain LoRA, weighted sums."""

import json

import pytest
import torch
from peft import PeftModel, convert_to_lora, get_peft_model, save_as_lora
from small import (
    FORMS,
    gpt2_config,
    logits,
    lora_config,
    lora_layers,
    nothing_changes,
    relative,
    scramble,
    trained,
)

from loram import LoramError

# PEFT doubts that one would convert what is a LoRA by its config.
already_lora = pytest.mark.filterwarnings(
    "ignore:Converting a PEFT adapter to LoRA that is already"
)


@already_lora
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_conversion_at_rank_2r_is_exact(request, ids, tmp_path, family):
    make = lora_config if family == "llama" else gpt2_config
    model = trained(request.getfixturevalue(family)(), make(lora_alpha=6, use_rslora=True), ids)
    expected = logits(model, ids)
    config, tensors = convert_to_lora(model, rank=8)
    assert config.init_lora_weights is True
    assert {key.rsplit(".", 2)[1] for key in tensors} == {"lora_A", "lora_B"}
    save_as_lora(tmp_path, model, rank=8)
    if family == "gpt2":  # PEFT drops the flag from the converted config, and warns of that
        file = tmp_path / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"fan_in_fan_out": True}))
    loaded = PeftModel.from_pretrained(request.getfixturevalue(family)(), tmp_path)
    assert relative(logits(loaded, ids), expected) < 1e-5


@already_lora
def test_conversion_at_a_low_rank_is_the_best_approximation_of_the_true_update(llama, ids):
    model = trained(llama(), lora_config(), ids)
    _, tensors = convert_to_lora(model, rank=2)
    for name, layer in model.named_modules():
        if layer in lora_layers(model):
            delta = layer.get_delta_weight("default").detach()
            U, S, Vh = torch.linalg.svd(delta)
            best = U[:, :2] @ S[:2].diag() @ Vh[:2]
            got = tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
            torch.testing.assert_close(got, best, rtol=1e-4, atol=1e-6)


@already_lora
def test_residual_adapter_cannot_be_converted(llama, tmp_path):
    model = get_peft_model(llama(), lora_config("loram_residual"))
    with nothing_changes(model):
        with pytest.raises(LoramError, match="loram export"):
            convert_to_lora(model, rank=4)
        with pytest.raises(LoramError, match="loram export"):
            save_as_lora(tmp_path, model, rank=4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("safe_serialization", [True, False])
def test_conversion_by_an_initial_model_is_refused_and_touches_no_file(
    llama, ids, tmp_path, form, safe_serialization
):
    model = get_peft_model(llama(), lora_config(form))
    initial = tmp_path / "initial"
    model.save_pretrained(initial)
    before = {f.name: f.read_bytes() for f in initial.iterdir()}
    with nothing_changes(model), pytest.raises(LoramError, match="loram export"):
        model.save_pretrained(
            tmp_path / "out",
            path_initial_model_for_weight_conversion=str(initial),
            safe_serialization=safe_serialization,
        )
    assert {f.name: f.read_bytes() for f in initial.iterdir()} == before


# ---- weighted sums -------------------------------------------------------------------------------

ADAPTERS = {
    "first": {"init": "loram", "r": 2, "lora_alpha": 4},
    "second": {"init": "loram(basis=gaussian, seed=3)", "r": 3, "lora_alpha": 6},
    "plain": {"init": True, "r": 2, "lora_alpha": 6},
}


def three_adapters(base, use_rslora: bool = False, make=lora_config):
    configs = {n: make(use_rslora=use_rslora, **settings) for n, settings in ADAPTERS.items()}
    model = get_peft_model(base, configs["first"], "first")
    for name in ("second", "plain"):
        model.add_adapter(name, configs[name])
    for seed, name in enumerate(ADAPTERS):
        scramble(model, name, seed)
    return model


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("names", [["first", "second"], ["second", "plain"], ["plain", "first"]])
@pytest.mark.parametrize("use_rslora", [False, True])
def test_svd_sum_is_the_sum_of_the_true_updates(request, ids, tmp_path, family, names, use_rslora):
    make = lora_config if family == "llama" else gpt2_config
    base = request.getfixturevalue(family)
    model = three_adapters(base(), use_rslora, make)
    before = {name: config.to_dict() for name, config in model.peft_config.items()}
    objects = dict(model.peft_config)
    model.add_weighted_adapter(names, [0.7, -0.4], "sum", combination_type="svd", svd_rank=12)
    for layer in lora_layers(model, "sum"):
        wanted = 0.7 * layer.get_delta_weight(names[0]) - 0.4 * layer.get_delta_weight(names[1])
        assert relative(layer.get_delta_weight("sum"), wanted) < 1e-5
    assert {n: c.to_dict() for n, c in model.peft_config.items() if n != "sum"} == before
    assert all(model.peft_config[name] is config for name, config in objects.items())
    assert model.peft_config["sum"].init_lora_weights is True
    model.set_adapter("sum")
    expected = logits(model, ids)
    model.save_pretrained(tmp_path, selected_adapters=["sum"])
    loaded = PeftModel.from_pretrained(base(), tmp_path / "sum")
    assert relative(logits(loaded, ids), expected) < 1e-6


def test_svd_sum_is_the_default_and_may_be_told_by_position(llama):
    model = three_adapters(llama())
    model.add_weighted_adapter(["first", "second"], [1.0, 1.0], "default_kind", svd_rank=10)
    model.add_weighted_adapter(["first", "second"], [1.0, 1.0], "by_position", "svd", 10)
    for layer in lora_layers(model, "first"):
        torch.testing.assert_close(
            layer.get_delta_weight("default_kind"), layer.get_delta_weight("by_position")
        )


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["first", "second"], "cat"),
        (["first", "plain"], "linear"),
        (["plain", "first"], "ties"),
        (["first", "second"], "dare_linear"),
        (["first"], "svd"),
        (["second"], "linear"),
    ],
)
def test_sums_of_stored_factors_are_refused(llama, names, kind):
    model = three_adapters(llama())
    configs = {name: config.to_dict() for name, config in model.peft_config.items()}
    with (
        nothing_changes(model),
        pytest.raises(LoramError, match="combination_type='svd' with two adapters or more"),
    ):
        model.add_weighted_adapter(names, [1.0] * len(names), "sum", combination_type=kind)
    assert {name: config.to_dict() for name, config in model.peft_config.items()} == configs


def test_failing_sum_gives_the_configs_back(llama):
    model = three_adapters(llama())
    objects = dict(model.peft_config)
    with pytest.raises(ValueError, match="does not exist"):
        model.add_weighted_adapter(["first", "nobody"], [1.0, 1.0], "sum")
    assert dict(model.peft_config) == objects
    assert all(model.peft_config[name] is config for name, config in objects.items())


def test_sums_of_plain_adapters_are_left_to_peft(llama):
    model = get_peft_model(llama(), lora_config(True), "first")
    model.add_adapter("second", lora_config(True))
    for seed, name in enumerate(("first", "second")):
        scramble(model, name, seed)
    model.add_weighted_adapter(["first", "second"], [1.0, 2.0], "sum", combination_type="cat")
    for layer in lora_layers(model, "sum"):
        wanted = layer.get_delta_weight("first") + 2 * layer.get_delta_weight("second")
        assert relative(layer.get_delta_weight("sum"), wanted) < 1e-5
