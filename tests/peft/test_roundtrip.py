"""Save, load and resume: what comes back is what was there."""

import json
from itertools import product
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model, inject_adapter_in_model, set_peft_model_state_dict
from peft.utils.save_and_load import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from small import (
    FORMS,
    GPT2_TARGETS,
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

from loram import LoramError
from loram.bases import BASES

WEIGHTS = "adapter_model.safetensors"


def edit_weights(path: Path, change) -> None:
    save_file(change(load_file(path / WEIGHTS)), path / WEIGHTS)


def edit_config(path: Path, **changes) -> None:
    file = path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def without_basis(tensors, where: str = ""):
    return {k: v for k, v in tensors.items() if "lora_basis" not in k or where not in k}


@pytest.mark.parametrize(
    ("use_rslora", "rank_pattern", "alpha_pattern", "form"),
    list(
        product(
            [False, True],
            [{}, {"q_proj": 2, "up_proj": 6}],
            [{}, {"k_proj": 9, "up_proj": 3}],
            FORMS,
        )
    ),
)
def test_loaded_adapter_gives_the_logits_that_were_saved(
    llama, ids, tmp_path, use_rslora, rank_pattern, alpha_pattern, form
):
    config = lora_config(
        form,
        lora_alpha=6,
        use_rslora=use_rslora,
        rank_pattern=rank_pattern,
        alpha_pattern=alpha_pattern,
    )
    model = trained(llama(), config, ids)
    expected = logits(model, ids)
    assert relative(expected, logits(llama(), ids)) > 0.01
    model.save_pretrained(tmp_path)
    for low_cpu_mem_usage in (False, True):
        loaded = PeftModel.from_pretrained(llama(), tmp_path, low_cpu_mem_usage=low_cpu_mem_usage)
        assert relative(logits(loaded, ids), expected) < 1e-6
        assert not any(t.is_meta for t in loaded.state_dict().values())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("basis", BASES)
def test_loaded_adapter_draws_the_basis_that_was_saved(gpt2, ids, tmp_path, form, basis):
    """Also on Conv1D, in bfloat16, and into a base that now would give another β."""
    model = trained(gpt2(), gpt2_config(f"{form}(basis={basis}, seed=5, gain=spectral)"), ids)
    model.save_pretrained(tmp_path)
    betas = [layer.lora_basis["default"].beta for layer in lora_layers(model)]
    other = gpt2(dtype=torch.bfloat16)
    loaded = PeftModel.from_pretrained(other, tmp_path)
    assert [layer.lora_basis["default"].beta for layer in lora_layers(loaded)] == betas
    assert relative(logits(loaded, ids), logits(model, ids)) < 0.05
    exact = PeftModel.from_pretrained(gpt2(), tmp_path)
    assert relative(logits(exact, ids), logits(model, ids)) < 1e-6


@pytest.mark.parametrize(
    "init", ["loram", "loram( gain = 0.25 ,basis=etf, seed=7)", "LORAM_RESIDUAL"]
)
def test_config_file_keeps_the_string_as_it_was_written(llama, tmp_path, init):
    get_peft_model(llama(), lora_config(init)).save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "adapter_config.json").read_text())
    assert stored["init_lora_weights"] == init


@pytest.mark.parametrize("form", FORMS)
def test_file_holds_the_factors_and_sixteen_bytes_a_layer(llama, tmp_path, form):
    model = get_peft_model(llama(), lora_config(form))
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    kinds = {key.rsplit(".", 2)[1] for key in tensors}
    assert kinds == {"lora_A", "lora_B", "lora_basis"}
    for key, tensor in tensors.items():
        if "lora_basis" in key:
            assert (tensor.dtype, tensor.shape) == (torch.int64, (2,))


@pytest.mark.parametrize("form", FORMS)
def test_loading_evaluates_no_gain(llama, ids, tmp_path, form, monkeypatch):
    model = trained(llama(), lora_config(form), ids)
    model.save_pretrained(tmp_path)
    monkeypatch.setattr(
        "loram.peft.start.beta", lambda *a, **k: pytest.fail("a gain was evaluated")
    )
    loaded = PeftModel.from_pretrained(llama(), tmp_path)
    loaded = PeftModel.from_pretrained(loaded.unload(), tmp_path)
    assert relative(logits(loaded, ids), logits(model, ids)) < 1e-5


# ---- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_loading_into_the_existing_adapter_restores_it(
    llama, ids, tmp_path, form, low_cpu_mem_usage
):
    """What the Trainer does on resume and for the best checkpoint."""
    model = trained(llama(), lora_config(form), ids)
    expected = logits(model, ids)
    model.save_pretrained(tmp_path)
    train(model, ids)
    assert not torch.equal(logits(model, ids), expected)
    model.load_adapter(tmp_path, "default", is_trainable=True, low_cpu_mem_usage=low_cpu_mem_usage)
    assert torch.equal(logits(model, ids), expected)
    train(model, ids)


@pytest.mark.parametrize("form", FORMS)
def test_a_checkpoint_resumes_in_a_fresh_adapter_made_with_another_gain(llama, ids, tmp_path, form):
    model = trained(llama(), lora_config(form), ids)
    model.save_pretrained(tmp_path)
    fresh = get_peft_model(llama(), lora_config(f"{form}(gain=0.1)"))
    fresh.load_adapter(tmp_path, "default", is_trainable=True)
    assert relative(logits(fresh, ids), logits(model, ids)) < 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_resumed_training_continues_the_same_path(llama, ids, tmp_path, form):
    model = trained(llama(), lora_config(form), ids)
    model.save_pretrained(tmp_path)
    train(model, ids, steps=4)
    loaded = PeftModel.from_pretrained(llama(), tmp_path, is_trainable=True)
    train(loaded, ids, steps=4)
    assert relative(logits(loaded, ids), logits(model, ids)) < 1e-4


# ---- beside PeftModel ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_transformers_own_add_adapter_and_inject_behave_as_get_peft_model(llama, ids, form):
    reference = trained(llama(), lora_config(form), ids)
    added, injected = llama(), llama()
    added.add_adapter(lora_config(form))
    inject_adapter_in_model(lora_config(form), injected)
    wanted = get_peft_model_state_dict(reference)
    for model in (added, injected):
        assert relative(logits(model, ids), logits(llama(), ids)) < 1e-5
        train(model, ids)
        torch.testing.assert_close(logits(model, ids), logits(reference, ids))
        got = get_peft_model_state_dict(model)
        assert {f"base_model.model.{key}" for key in got} == wanted.keys()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_state_dict_set_on_an_injected_model_gives_the_saved_logits(
    llama, ids, form, low_cpu_mem_usage
):
    reference = trained(llama(), lora_config(form), ids)
    tensors = get_peft_model_state_dict(reference)
    model = inject_adapter_in_model(lora_config(form), llama(), low_cpu_mem_usage=low_cpu_mem_usage)
    set_peft_model_state_dict(model, tensors, low_cpu_mem_usage=low_cpu_mem_usage)
    assert relative(logits(model, ids), logits(reference, ids)) < 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_transformers_own_load_adapter_gives_the_saved_logits(llama, ids, tmp_path, form):
    reference = trained(llama(), lora_config(f"{form}(basis=gaussian, seed=4)"), ids)
    reference.save_pretrained(tmp_path)
    model = llama()
    model.load_adapter(str(tmp_path))
    assert relative(logits(model, ids), logits(reference, ids)) < 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_transformers_own_load_adapter_takes_beta_from_the_file(llama, ids, tmp_path, form):
    """The base is rounded to bfloat16, so that its own β is another."""
    reference = get_peft_model(llama(), lora_config(form))
    scramble(reference, "default")
    reference.save_pretrained(tmp_path)
    model = llama(dtype=torch.bfloat16).float()
    model.load_adapter(str(tmp_path))
    for mine, theirs in zip(lora_layers(model), lora_layers(reference), strict=True):
        assert mine.lora_basis["default"].beta == theirs.lora_basis["default"].beta
    plain = PeftModel.from_pretrained(llama(dtype=torch.bfloat16).float(), tmp_path)
    assert relative(logits(model, ids), logits(plain, ids)) < 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_transformers_own_load_adapter_refuses_a_stripped_checkpoint(llama, ids, tmp_path, form):
    trained(llama(), lora_config(form), ids).save_pretrained(tmp_path)
    edit_weights(tmp_path, without_basis)
    with pytest.raises(LoramError, match="lora_basis"):
        llama().load_adapter(str(tmp_path))


@pytest.mark.parametrize("form", FORMS)
def test_transformers_own_load_adapter_refuses_an_overridden_string(llama, ids, tmp_path, form):
    trained(llama(), lora_config(form), ids).save_pretrained(tmp_path)
    edit_config(tmp_path, init_lora_weights=True)
    with pytest.raises(LoramError, match="Restore the string"):
        llama().load_adapter(str(tmp_path))


@pytest.mark.parametrize("form", FORMS)
def test_transformers_own_hot_swap_gives_the_saved_logits_or_is_refused(llama, ids, tmp_path, form):
    """`load_adapter(hotswap=True)`, which goes past PEFT's hot-swap."""
    reference = trained(llama(), lora_config(f"{form}(basis=gaussian, seed=3)"), ids)
    reference.save_pretrained(tmp_path)
    model = llama()
    model.add_adapter(lora_config(form))
    logits(model, ids)
    try:
        model.load_adapter(str(tmp_path), adapter_name="default", hotswap=True)
    except LoramError:
        return
    assert relative(logits(model, ids), logits(reference, ids)) < 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_transformers_own_save_pretrained_can_be_loaded(llama, ids, tmp_path, form):
    model = llama()
    model.add_adapter(lora_config(form))
    train(model, ids)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(llama(), tmp_path)
    assert relative(logits(loaded, ids), logits(model, ids)) < 1e-5


# ---- damaged files -------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_stripped_checkpoint_is_refused(llama, tmp_path, form, low_cpu_mem_usage):
    get_peft_model(llama(), lora_config(form)).save_pretrained(tmp_path)
    edit_weights(tmp_path, without_basis)
    with pytest.raises(LoramError, match=r"q_proj but no lora_basis.*stripped"):
        PeftModel.from_pretrained(llama(), tmp_path, low_cpu_mem_usage=low_cpu_mem_usage)


@pytest.mark.parametrize("form", FORMS)
def test_config_overridden_to_plain_lora_is_refused(llama, tmp_path, form):
    get_peft_model(llama(), lora_config(form)).save_pretrained(tmp_path)
    edit_config(tmp_path, init_lora_weights=True)
    with pytest.raises(LoramError, match=r"Restore the string in adapter_config.json"):
        PeftModel.from_pretrained(llama(), tmp_path)
    with pytest.raises(LoramError, match="Restore the string"):
        PeftModel.from_pretrained(llama(), tmp_path, config=lora_config(True))


DAMAGE = {
    "nan": torch.tensor([0x7FF8 << 48, 0]),
    "infinite": torch.tensor([0x7FF0 << 48, 0]),
    "negative": torch.tensor([-(1 << 62), 0]),
    "cast": torch.tensor([0.5, 0.0], dtype=torch.bfloat16),
    "short": torch.tensor([0]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_beta_is_refused_and_the_base_is_left_alone(llama, tmp_path, form, damage):
    get_peft_model(llama(), lora_config(form)).save_pretrained(tmp_path)
    edit_weights(
        tmp_path,
        lambda t: {k: DAMAGE[damage].clone() if "lora_basis" in k else v for k, v in t.items()},
    )
    base = llama()
    with base_stays(base), pytest.raises(ValueError, match=r"q_proj.*adapter file is damaged"):
        PeftModel.from_pretrained(base, tmp_path)


@pytest.mark.parametrize("form", FORMS)
def test_unknown_basis_code_is_refused_and_the_base_is_left_alone(llama, tmp_path, form):
    get_peft_model(llama(), lora_config(form)).save_pretrained(tmp_path)
    edit_weights(
        tmp_path,
        lambda t: {
            k: torch.stack([v[0], torch.tensor(99)]) if "1.mlp.down_proj.lora_basis" in k else v
            for k, v in t.items()
        },
    )
    base = llama()
    with base_stays(base), pytest.raises(ValueError, match="newer loram"):
        PeftModel.from_pretrained(base, tmp_path)


def test_residual_checkpoint_with_one_bad_layer_leaves_every_base_weight_alone(llama, tmp_path):
    get_peft_model(llama(), lora_config("loram_residual")).save_pretrained(tmp_path)
    edit_weights(tmp_path, lambda t: without_basis(t, "layers.1.mlp.down_proj"))
    base = llama()
    with base_stays(base), pytest.raises(LoramError, match=r"layers\.1\.mlp\.down_proj"):
        PeftModel.from_pretrained(base, tmp_path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:Found missing adapter keys:UserWarning")  # PEFT's, and right
def test_layer_missing_from_a_checkpoint_behaves_as_the_base(llama, ids, tmp_path, form):
    """As in plain LoRA, whose B is then zero. PEFT warns, and does not raise."""
    where = "layers.1.mlp.down_proj"
    reference = get_peft_model(llama(), lora_config(form))
    scramble(reference, "default")
    reference.save_pretrained(tmp_path)
    edit_weights(tmp_path, lambda t: {k: v for k, v in t.items() if where not in k})
    loaded = PeftModel.from_pretrained(llama(), tmp_path)
    smaller = lora_config(form, exclude_modules=[where])
    expected = get_peft_model(llama(), smaller)
    expected.load_adapter(tmp_path, "default")
    assert relative(logits(loaded, ids), logits(expected, ids)) < 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_checkpoint_of_another_rank_is_refused_and_the_base_is_left_alone(llama, tmp_path, form):
    get_peft_model(llama(), lora_config(form, r=2)).save_pretrained(tmp_path)
    edit_config(tmp_path, r=6)
    base = llama()
    with base_stays(base), pytest.raises((RuntimeError, ValueError), match=r"size|rank"):
        PeftModel.from_pretrained(base, tmp_path)


def test_failed_load_of_a_second_adapter_leaves_the_first_as_it_is(llama, ids, tmp_path):
    model = trained(llama(), lora_config(), ids)
    expected = logits(model, ids)
    model.save_pretrained(tmp_path)
    edit_weights(tmp_path, without_basis)
    with pytest.raises(LoramError):
        model.load_adapter(tmp_path, "other")
    assert torch.equal(logits(model, ids), expected)
    model.save_pretrained(tmp_path, selected_adapters=["default"])
    model.load_adapter(tmp_path, "other")
    model.set_adapter("other")
    assert torch.equal(logits(model, ids), expected)


def test_plain_lora_checkpoint_loads_as_ever(llama, ids, tmp_path):
    model = trained(llama(), lora_config(True), ids)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(llama(), tmp_path)
    assert_same_state(state(loaded), state(model))


def test_plain_lora_checkpoint_into_a_loram_adapter_is_refused(llama, ids, tmp_path):
    trained(llama(), lora_config(True), ids).save_pretrained(tmp_path)
    model = get_peft_model(llama(), lora_config())
    with nothing_changes(model), pytest.raises(LoramError, match="init_lora_weights=True"):
        model.load_adapter(tmp_path, "default")


def test_loram_checkpoint_into_a_plain_adapter_is_refused(llama, ids, tmp_path):
    trained(llama(), lora_config(), ids).save_pretrained(tmp_path)
    model = get_peft_model(llama(), lora_config(True))
    with nothing_changes(model), pytest.raises(LoramError, match="loram export"):
        model.load_adapter(tmp_path, "default")


def test_gpt2_targets_are_conv1d(gpt2):
    from transformers.pytorch_utils import Conv1D

    modules = [m for n, m in gpt2().named_modules() if n.endswith(tuple(GPT2_TARGETS))]
    assert modules
    assert all(type(m) is Conv1D for m in modules)
