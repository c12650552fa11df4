"""Disabling, deleting, unloading, switching and merging: what happens to the base."""

import copy
import math

import pytest
import torch
from peft import get_peft_model
from peft.helpers import rescale_adapter_scale
from small import (
    FORMS,
    assert_same_state,
    base_stays,
    gpt2_config,
    logits,
    lora_config,
    lora_layers,
    nothing_changes,
    relative,
    scramble,
    state,
    train,
    trained,
)
from torch import nn

import loram
from loram import LoramError

BITWISE = ["loram", "loram_residual(keep_base=true)"]
# PEFT tells of the adapter it falls back on when the active one goes.
falls_back = pytest.mark.filterwarnings("ignore:Adapter .* was active which is now deleted")


def leave(model, how: str) -> nn.Module:
    """The plain base model, after the adapter has gone."""
    if how == "unload":
        return model.unload()
    model.delete_adapter("default")
    return model.base_model.model


@pytest.mark.parametrize("how", ["unload", "delete_adapter"])
@pytest.mark.parametrize("init", [*BITWISE, "loram_residual"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_base_comes_back_when_the_adapter_goes(llama, ids, how, init, dtype):
    base = llama(dtype=dtype)
    expected, before = logits(base, ids), state(base)
    model = trained(base, lora_config(init), ids)
    assert relative(logits(model, ids), expected) > 0.01
    plain = leave(model, how)
    if init in BITWISE:
        assert torch.equal(logits(plain, ids), expected)
        assert_same_state(
            {k.replace("base_layer.", ""): v for k, v in state(plain).items()}, before
        )
    else:
        bound = 1e-5 if dtype == torch.float32 else 0.03
        assert relative(logits(plain, ids), expected) < bound


@pytest.mark.parametrize("init", ["loram", "loram_residual"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_disabled_adapter_is_the_base(request, ids, init, family):
    base = request.getfixturevalue(family)()
    make = lora_config if family == "llama" else gpt2_config
    expected = logits(base, ids)
    model = trained(base, make(init), ids)
    active = logits(model, ids)
    with model.disable_adapter():
        disabled = logits(model, ids)
    assert (
        torch.equal(disabled, expected) if init == "loram" else relative(disabled, expected) < 1e-5
    )
    assert torch.equal(logits(model, ids), active)


@pytest.mark.parametrize("init", ["loram", "loram_residual"])
def test_disabled_adapter_is_the_base_also_while_merged(llama, ids, init):
    base = llama()
    expected = logits(base, ids)
    model = trained(base, lora_config(init), ids)
    model.merge_adapter()
    with model.disable_adapter():
        assert relative(logits(model, ids), expected) < 1e-5


@pytest.mark.parametrize("init", ["loram", "loram_residual"])
def test_an_adapter_that_is_not_active_has_no_effect(llama, ids, init):
    base = llama()
    expected = logits(base, ids)
    model = trained(base, lora_config(init), ids)
    for layer in lora_layers(model):
        layer.set_adapter([])
    assert relative(logits(model, ids), expected) < (1e-5 if "residual" in init else 1e-30)


def test_two_adapters_switched_twenty_times_leave_the_base_and_each_other_alone(llama, ids):
    base = llama()
    expected = logits(base, ids)
    with base_stays(base):
        model = trained(base, lora_config(), ids)
        model.add_adapter("other", lora_config("loram(basis=gaussian, seed=3)", r=6))
        model.set_adapter("other")
        train(model, ids, steps=5)
        outputs = {}
        for _ in range(20):
            for name in ("default", "other"):
                model.set_adapter(name)
                out = logits(model, ids)
                assert torch.equal(outputs.setdefault(name, out), out)
        assert not torch.equal(outputs["default"], outputs["other"])
        with model.disable_adapter():
            assert torch.equal(logits(model, ids), expected)


@falls_back
def test_deleting_one_of_two_adapters_leaves_the_other(llama, ids):
    base = llama()
    with base_stays(base):
        model = trained(base, lora_config(), ids)
        expected = logits(model, ids)
        model.add_adapter("other", lora_config("loram(basis=etf)"))
        model.set_adapter("other")
        train(model, ids)
        model.delete_adapter("other")
        assert torch.equal(logits(model, ids), expected)
    assert not any("other" in key for key in model.state_dict())


def test_adapters_that_are_active_together_add_their_updates(llama, ids):
    """LoRAM, LoRAM and plain LoRA; the oracle adds their dense updates to the weights."""
    model = get_peft_model(llama(), lora_config())
    model.add_adapter("other", lora_config("loram(basis=orthogonal)", r=2, lora_alpha=4))
    model.add_adapter("plain", lora_config(True))
    for seed, name in enumerate(("default", "other", "plain")):
        scramble(model, name, seed)
    oracle = llama()
    for name, module in oracle.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(tuple(lora_config().target_modules)):
            layer = model.base_model.model.get_submodule(name)
            module.weight.data += sum(layer.get_delta_weight(a) for a in layer.r).detach()
    model.base_model.set_adapter(["default", "other", "plain"])
    torch.testing.assert_close(logits(model, ids), logits(oracle, ids), rtol=1e-4, atol=1e-5)


# ---- the update, merging -------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("use_rslora", [False, True])
@pytest.mark.parametrize("init", ["loram", "loram(basis=gaussian, seed=2)"])
def test_delta_weight_is_the_true_update_in_float64(request, family, use_rslora, init):
    base = request.getfixturevalue(family)(dtype=torch.float64)
    make = lora_config if family == "llama" else gpt2_config
    model = get_peft_model(base, make(init, lora_alpha=8, use_rslora=use_rslora))
    scramble(model, "default")
    s = 8 / math.sqrt(4) if use_rslora else 2.0
    basis, seed = ("gaussian", 2) if "gaussian" in init else ("dst", 0)
    for layer in lora_layers(model):
        stored = layer.get_base_layer().weight.detach()
        W = stored.T if family == "gpt2" else stored
        B0, A0, _ = loram.factors(W, 4, basis=basis, seed=seed)
        dA, dB = (f["default"].weight.detach() for f in (layer.lora_A, layer.lora_B))
        update = s * ((B0 + dB) @ (A0 + dA) - B0 @ A0)
        delta = layer.get_delta_weight("default").detach()
        assert delta.dtype == torch.float64
        oriented = update.T if family == "gpt2" else update
        torch.testing.assert_close(delta, oriented, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("init", ["loram", "loram_residual", "loram_residual(keep_base=true)"])
@pytest.mark.parametrize("safe", [True, False])
def test_merging_and_unmerging_keep_the_logits(request, ids, family, init, safe):
    base = request.getfixturevalue(family)()
    make = lora_config if family == "llama" else gpt2_config
    weights = dict(base.named_parameters())
    before = {n: p.detach().clone() for n, p in weights.items()}
    model = trained(base, make(init, lora_alpha=6), ids)
    expected = logits(model, ids)
    for _ in range(2):
        model.merge_adapter(safe_merge=safe)
        assert relative(logits(model, ids), expected) < 1e-5
        model.unmerge_adapter()
        assert relative(logits(model, ids), expected) < 1e-5
    model.unload()
    for name, weight in weights.items():
        torch.testing.assert_close(weight.detach(), before[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("init", ["loram", "loram_residual", "loram_residual(keep_base=true)"])
@pytest.mark.parametrize("merged_before", [False, True])
def test_merged_and_unloaded_model_equals_the_unmerged_one(
    request, ids, family, init, merged_before
):
    base = request.getfixturevalue(family)()
    make = lora_config if family == "llama" else gpt2_config
    model = trained(base, make(init), ids)
    expected = logits(model, ids)
    if merged_before:
        model.merge_adapter()
        plain = model.unload()
    else:
        plain = model.merge_and_unload()
    assert relative(logits(plain, ids), expected) < 1e-5
    assert not any("lora" in name for name in plain.state_dict())
    # It is an ordinary model again: an adapter may go on it.
    assert relative(logits(get_peft_model(plain, make(init)), ids), expected) < 1e-5


def test_merging_in_bfloat16_stays_near_the_float32_oracle(llama, ids):
    model = trained(llama(dtype=torch.bfloat16), lora_config(), ids)
    expected = logits(model, ids)
    assert relative(logits(model.merge_and_unload(), ids), expected) < 0.05


# ---- tied embeddings, mixed batches, scales ------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")  # PEFT's
def test_deviation_form_on_a_tied_head_leaves_the_embedding_alone(llama, ids):
    base = llama(tied=True)
    expected = logits(base, ids)
    config = lora_config(target_modules=["q_proj", "lm_head"])
    with base_stays(base):
        model = get_peft_model(base, config)
        assert torch.equal(logits(model, ids), expected)
        train(model, ids)
        assert relative(logits(model, ids), expected) > 0.01
        assert torch.equal(logits(model.unload(), ids), expected)


def test_mixed_batch_gives_each_row_its_own_adapter(llama, ids):
    model = get_peft_model(llama(), lora_config())
    model.add_adapter("other", lora_config("loram(basis=etf)", r=3))
    for seed, name in enumerate(("default", "other")):
        scramble(model, name, seed)
    names = ["other", "__base__", "default"]
    mixed = logits(model, ids, adapter_names=names)
    for row, name in enumerate(names):
        if name == "__base__":
            with model.disable_adapter():
                alone = logits(model, ids)
        else:
            model.set_adapter(name)
            alone = logits(model, ids)
        torch.testing.assert_close(mixed[row], alone[row], rtol=1e-5, atol=1e-6)


def test_mixed_batch_with_a_residual_adapter_is_refused(llama, ids):
    model = get_peft_model(llama(), lora_config("loram_residual"))
    with pytest.raises(LoramError, match="init_lora_weights='loram'"):
        logits(model, ids, adapter_names=["default"] * 3)


RESCALINGS = {
    "set_scale": lambda layer: layer.set_scale("default", 0.5),
    "scale_layer": lambda layer: layer.scale_layer(0.5),
    "unscale_layer": lambda layer: layer.unscale_layer(2.0),
}


@pytest.mark.parametrize("how", RESCALINGS)
def test_scale_of_the_deviation_form_scales_the_update(llama, how):
    model = get_peft_model(llama(), lora_config(lora_alpha=8))
    scramble(model, "default")
    for layer in lora_layers(model):
        before = layer.get_delta_weight("default")
        RESCALINGS[how](layer)
        torch.testing.assert_close(layer.get_delta_weight("default"), 0.5 * before)


@pytest.mark.parametrize("how", RESCALINGS)
def test_scale_of_the_residual_form_cannot_change(llama, ids, how):
    model = trained(llama(), lora_config("loram_residual"), ids)
    expected = logits(model, ids)
    for layer in lora_layers(model):
        with pytest.raises(LoramError, match=r"s = 1\..*init_lora_weights='loram'"):
            RESCALINGS[how](layer)
        layer.set_scale("default", 1.0)
        layer.scale_layer(1)
        layer.unscale_layer()
    assert torch.equal(logits(model, ids), expected)


def test_peft_rescaling_context_scales_the_deviation_form(llama, ids):
    model = trained(llama(), lora_config(), ids)
    with rescale_adapter_scale(model, 0.0):
        scaled = logits(model, ids)
    with model.disable_adapter():
        assert torch.equal(scaled, logits(model, ids))


def test_peft_rescaling_context_does_not_break_the_residual_form(llama, ids):
    """At 0, the update is off: either that is the base, or it is refused."""
    base = llama()
    expected = logits(base, ids)
    model = trained(base, lora_config("loram_residual"), ids)
    try:
        with rescale_adapter_scale(model, 0.0):
            scaled = logits(model, ids)
    except LoramError:
        return
    assert relative(scaled, expected) < 1e-5


# ---- DoRA ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("lora_dropout", [0.0, 0.2])
def test_dora_in_the_residual_form_starts_at_the_base_learns_and_gives_it_back(
    request, ids, family, lora_dropout
):
    base = request.getfixturevalue(family)()
    make = lora_config if family == "llama" else gpt2_config
    expected = logits(base, ids)
    model = get_peft_model(base, make("loram_residual", use_dora=True, lora_dropout=lora_dropout))
    assert relative(logits(model, ids), expected) < 1e-5
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss
    train(model, ids, steps=10, lr=0.1)
    out = logits(model, ids)
    assert model(input_ids=ids, labels=ids).loss < loss
    with model.disable_adapter():
        assert relative(logits(model, ids), expected) < 1e-5
    model.merge_adapter()
    assert relative(logits(model, ids), out) < 1e-4
    model.unmerge_adapter()
    assert relative(logits(model, ids), out) < 1e-4
    assert relative(logits(model.unload(), ids), expected) < 1e-4


# ---- copies --------------------------------------------------------------------------------------


def through_a_file(model: nn.Module, path) -> nn.Module:
    torch.save(model, path / "model.pt")
    return torch.load(path / "model.pt", weights_only=False)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
@pytest.mark.parametrize("warm", [True, False])
def test_copied_model_works_and_is_independent(llama, ids, tmp_path, form, how, warm):
    model = get_peft_model(llama(), lora_config(f"{form}(basis=orthogonal, seed=9)"))
    scramble(model, "default")
    expected = logits(model, ids) if warm else None
    twin = copy.deepcopy(model) if how == "deepcopy" else through_a_file(model, tmp_path)
    expected = logits(model, ids)
    with nothing_changes(model):
        assert torch.equal(logits(twin, ids), expected)
        train(twin, ids)
        assert not torch.equal(logits(twin, ids), expected)
        with twin.disable_adapter():
            assert relative(logits(twin, ids), logits(llama(), ids)) < 1e-5
        assert relative(logits(twin.unload(), ids), logits(llama(), ids)) < 1e-5
        assert torch.equal(logits(model, ids), expected)


@pytest.mark.parametrize("form", FORMS)
def test_model_cast_after_creation_still_gives_the_base_back(llama, ids, form):
    model = get_peft_model(llama(), lora_config(form)).to(torch.bfloat16)
    scramble(model, "default")
    assert logits(model, ids).isfinite().all()
    expected = logits(llama(dtype=torch.bfloat16), ids)
    with model.disable_adapter():
        assert relative(logits(model, ids), expected) < 0.03
    plain = logits(model.unload(), ids)
    assert torch.equal(plain, expected) if form == "loram" else relative(plain, expected) < 0.03
