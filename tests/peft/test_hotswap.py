"""Hot-swapping: the slot then gives what a fresh load of the file gives."""

import pytest
import torch
from peft import PeftModel, get_peft_model
from peft.utils.hotswap import hotswap_adapter, prepare_model_for_compiled_hotswap
from safetensors.torch import load_file, save_file
from small import (
    FORMS,
    gpt2_config,
    logits,
    lora_config,
    lora_layers,
    nothing_changes,
    relative,
    scramble,
    train,
)

from loram import LoramError

INCOMING = {
    "same": ("loram(gain=0.5)", 4),
    "gain": ("loram", 4),
    "seed": ("loram(basis=gaussian, seed=8)", 4),
    "basis": ("loram(basis=orthogonal)", 4),
    "etf": ("loram(basis=etf)", 4),
    "smaller": ("loram(basis=orthogonal, seed=2)", 2),
    "smaller etf": ("loram(basis=etf, seed=2)", 3),
    "larger": ("loram", 6),
    "larger etf": ("loram(basis=etf)", 6),
    "plain": (True, 4),
    "smaller plain": (True, 2),
}


def saved(base, config, path) -> str:
    """An adapter file with factors off their start."""
    model = get_peft_model(base, config)
    scramble(model, "default", seed=5)
    model.save_pretrained(path)
    return str(path)


def swap(model, path) -> None:
    hotswap_adapter(model, path, adapter_name="default", torch_device="cpu")


@pytest.mark.parametrize("kind", INCOMING)
@pytest.mark.parametrize("slot", ["loram(basis=gaussian, seed=1)", "loram(basis=etf)"])
@pytest.mark.parametrize("padded", [False, True])
def test_swapped_slot_equals_a_fresh_load(llama, ids, tmp_path, kind, slot, padded):
    init, r = INCOMING[kind]
    path = saved(llama(), lora_config(init, r=r, lora_alpha=2 * r), tmp_path)
    expected = logits(PeftModel.from_pretrained(llama(), path), ids)
    model = get_peft_model(llama(), lora_config(slot))
    scramble(model, "default")
    before = logits(model, ids)
    if padded:
        prepare_model_for_compiled_hotswap(model, target_rank=8)
        assert relative(logits(model, ids), before) < 1e-6
    swap(model, path)
    assert relative(logits(model, ids), expected) < 1e-6


def test_slot_can_be_swapped_many_times(gpt2, ids, tmp_path):
    files = {
        kind: saved(gpt2(), gpt2_config(init, r=r), tmp_path / kind)
        for kind, (init, r) in INCOMING.items()
    }
    expected = {k: logits(PeftModel.from_pretrained(gpt2(), f), ids) for k, f in files.items()}
    model = get_peft_model(gpt2(), gpt2_config())
    prepare_model_for_compiled_hotswap(model, target_rank=8)
    for kind in [*files, *reversed(files)]:
        swap(model, files[kind])
        assert relative(logits(model, ids), expected[kind]) < 1e-6, kind


def test_swapped_slot_merges_saves_and_trains_as_the_file_would(llama, ids, tmp_path):
    path = saved(llama(), lora_config("loram(basis=orthogonal)", r=2), tmp_path / "in")
    model = get_peft_model(llama(), lora_config("loram(basis=gaussian)"))
    swap(model, path)
    expected = logits(PeftModel.from_pretrained(llama(), path), ids)
    model.merge_adapter()
    assert relative(logits(model, ids), expected) < 1e-5
    model.unmerge_adapter()
    model.save_pretrained(tmp_path / "out")
    loaded = PeftModel.from_pretrained(llama(), tmp_path / "out")
    assert relative(logits(loaded, ids), expected) < 1e-5
    train(model, ids)
    assert not torch.equal(logits(model, ids), expected)


def test_slot_that_took_plain_lora_saves_as_plain_lora_does(llama, ids, tmp_path):
    """β = 0 beside the string `loram`: what loads it gives the same logits."""
    path = saved(llama(), lora_config(True), tmp_path / "in")
    model = get_peft_model(llama(), lora_config())
    swap(model, path)
    assert {layer.lora_basis["default"].beta for layer in lora_layers(model)} == {0.0}
    model.save_pretrained(tmp_path / "out")
    loaded = PeftModel.from_pretrained(llama(), tmp_path / "out")
    assert relative(logits(loaded, ids), logits(model, ids)) < 1e-6


@pytest.mark.parametrize(
    ("slot", "incoming"),
    [("loram_residual", "loram"), ("loram", "loram_residual"), ("loram_residual", True)],
)
def test_residual_form_is_refused_on_either_side(llama, tmp_path, slot, incoming):
    path = saved(llama(), lora_config(incoming), tmp_path)
    model = get_peft_model(llama(), lora_config(slot))
    with nothing_changes(model), pytest.raises(LoramError, match="init_lora_weights='loram'"):
        swap(model, path)


def test_loram_into_a_slot_of_plain_lora_is_refused(llama, tmp_path):
    """It has no room for β; PEFT's own words are enough."""
    path = saved(llama(), lora_config(), tmp_path)
    model = get_peft_model(llama(), lora_config(True))
    with nothing_changes(model), pytest.raises((RuntimeError, LoramError), match="lora_basis"):
        swap(model, path)


@pytest.mark.parametrize("where", ["", "layers.1.mlp.down_proj"])
def test_stripped_file_is_refused(llama, tmp_path, where):
    """From every layer, or from one: without its β that layer would silently run as plain LoRA."""
    path = saved(llama(), lora_config(), tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    kept = {k: v for k, v in tensors.items() if "lora_basis" not in k or where not in k}
    save_file(kept, file)
    model = get_peft_model(llama(), lora_config())
    with nothing_changes(model), pytest.raises(LoramError, match="lora_basis"):
        swap(model, path)


def test_damaged_file_is_refused(llama, tmp_path):
    path = saved(llama(), lora_config(), tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    bad = torch.tensor([-1, 0])
    save_file(
        {k: bad.clone() if "lora_basis" in k else v for k, v in load_file(file).items()}, file
    )
    model = get_peft_model(llama(), lora_config())
    with nothing_changes(model), pytest.raises(ValueError, match="damaged"):
        swap(model, path)


@pytest.mark.parametrize("form", FORMS)
def test_preparing_for_compiled_swaps_keeps_the_model(llama, ids, form):
    """The scalings become tensors and the factors are padded with zeros."""
    model = get_peft_model(llama(), lora_config(form, lora_alpha=3))
    scramble(model, "default")
    expected = logits(model, ids)
    prepare_model_for_compiled_hotswap(model, target_rank=7)
    assert relative(logits(model, ids), expected) < 1e-6
    with model.disable_adapter():
        assert relative(logits(model, ids), logits(llama(), ids)) < 1e-5
    for layer in lora_layers(model):
        layer.scale_layer(1)  # nothing changes, so nothing to refuse
        layer.set_scale("default", 1)


def test_refused_scale_of_a_prepared_residual_adapter_is_put_back(llama, ids):
    """Its scalings are tensors, which PEFT multiplies in place."""
    model = get_peft_model(llama(), lora_config("loram_residual"))
    prepare_model_for_compiled_hotswap(model, target_rank=7)
    expected = logits(model, ids)
    for layer in lora_layers(model):
        with pytest.raises(LoramError, match="scaling"):
            layer.scale_layer(0.5)
    assert torch.equal(logits(model, ids), expected)
