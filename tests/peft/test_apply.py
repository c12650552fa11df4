"""`loram.apply_`: the same as the string, afterwards."""

import pytest
import torch
from peft import get_peft_model
from small import (
    FORMS,
    assert_same_state,
    gpt2_config,
    logits,
    lora_config,
    lora_layers,
    nothing_changes,
    relative,
    state,
    train,
)

import loram
from loram import LoramError


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("init", ["loram", "loram(basis=gaussian, seed=3)", "loram_residual"])
@pytest.mark.parametrize("plain", [True, "gaussian", False, "orthogonal"])
def test_applied_adapter_equals_the_one_made_by_the_string(request, ids, family, init, plain):
    make = lora_config if family == "llama" else gpt2_config
    settings = {"rank_pattern": {"c_attn|q_proj": 2}, "lora_alpha": 6, "use_rslora": True}
    by_string = get_peft_model(request.getfixturevalue(family)(), make(init, **settings))
    applied = get_peft_model(request.getfixturevalue(family)(), make(plain, **settings))
    loram.apply_(applied, init)
    assert applied.peft_config["default"].init_lora_weights == init
    for _ in range(2):
        assert_same_state(state(applied), state(by_string))
        assert torch.equal(logits(applied, ids), logits(by_string, ids))
        train(applied, ids)
        train(by_string, ids)


@pytest.mark.parametrize("form", FORMS)
def test_applied_adapter_in_bfloat16_equals_the_one_made_by_the_string(llama, form):
    by_string = get_peft_model(llama(dtype=torch.bfloat16), lora_config(form))
    applied = get_peft_model(llama(dtype=torch.bfloat16), lora_config(True))
    loram.apply_(applied, form)
    assert_same_state(state(applied), state(by_string))


@pytest.mark.parametrize("form", FORMS)
def test_applied_adapter_gives_the_base_back(llama, ids, form):
    expected = logits(llama(), ids)
    model = get_peft_model(llama(), lora_config(True))
    loram.apply_(model, form)
    train(model, ids)
    with model.disable_adapter():
        assert relative(logits(model, ids), expected) < 1e-5
    assert relative(logits(model.unload(), ids), expected) < 1e-5


def test_apply_works_on_a_model_that_peft_injected_into(llama, ids):
    model = llama()
    model.add_adapter(lora_config(True))
    loram.apply_(model)
    assert torch.equal(logits(model, ids), logits(llama(), ids))
    assert all("default" in layer.lora_basis for layer in lora_layers(model))


def test_apply_takes_the_named_adapter_and_leaves_the_others(llama, ids):
    model = get_peft_model(llama(), lora_config(True))
    model.add_adapter("other", lora_config(True))
    train(model, ids)
    expected = logits(model, ids)
    loram.apply_(model, adapter="other")
    assert torch.equal(logits(model, ids), expected)
    assert model.peft_config["default"].init_lora_weights is True
    model.set_adapter("other")
    train(model, ids)
    model.set_adapter("default")
    assert torch.equal(logits(model, ids), expected)


def test_apply_makes_dora_residual(llama, ids):
    model = get_peft_model(llama(), lora_config(True, use_dora=True))
    loram.apply_(model, "loram_residual")
    assert relative(logits(model, ids), logits(llama(), ids)) < 1e-5


@pytest.mark.parametrize(
    ("resident", "init", "adapter", "message"),
    [
        (True, "lorma", None, "expected a string such as"),
        (True, True, None, "expected a string such as"),
        (True, "loram(gian=log)", None, "Did you mean gain"),
        (True, "loram", "nobody", r"no adapter 'nobody'.*default"),
        ("pissa", "loram", None, "pissa.*expected a plain one"),
        ("olora", "loram_residual", None, "olora.*expected a plain one"),
        ("loram", "loram", None, "'loram'.*expected a plain one"),
        ("loram_residual", "loram", None, "'loram_residual'.*expected a plain one"),
    ],
)
def test_apply_refuses_and_changes_nothing(llama, resident, init, adapter, message):
    model = get_peft_model(llama(), lora_config(resident))
    with nothing_changes(model), pytest.raises(ValueError, match=message):
        loram.apply_(model, init, adapter=adapter)
    assert model.peft_config["default"].init_lora_weights == resident


@pytest.mark.parametrize(
    ("settings", "init", "message"),
    [
        ({"use_dora": True}, "loram", "loram_residual"),
        ({"lora_bias": True}, "loram", "lora_bias"),
        ({"lora_bias": True}, "loram_residual", "lora_bias"),
    ],
)
def test_apply_refuses_settings_that_the_string_would(gpt2, settings, init, message):
    model = get_peft_model(gpt2(), gpt2_config(True, **settings))
    with nothing_changes(model), pytest.raises(ValueError, match=message):
        loram.apply_(model, init)


def test_apply_refuses_the_residual_form_beside_another_adapter(llama):
    model = get_peft_model(llama(), lora_config(True))
    model.add_adapter("other", lora_config(True))
    with nothing_changes(model), pytest.raises(LoramError, match="only adapter"):
        loram.apply_(model, "loram_residual")


def test_apply_refuses_a_merged_adapter(llama, ids):
    model = get_peft_model(llama(), lora_config(True))
    train(model, ids)
    model.merge_adapter()
    with nothing_changes(model), pytest.raises(LoramError, match="unmerge_adapter"):
        loram.apply_(model)


def test_apply_refuses_a_model_without_adapters(llama):
    with pytest.raises(ValueError, match="no adapter"):
        loram.apply_(llama())
