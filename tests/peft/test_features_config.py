"""What a LoraConfig can ask for beside the factors, in both forms."""

import pytest
import torch
from peft import PeftModel, get_peft_model
from peft.tuners.lora.layer import LoraLayer
from small import FORMS, LLAMA_TARGETS, logits, lora_config, lora_layers, relative, scramble, train

HEAD = "lm_head"


def adapted(model):
    return [n for n, m in model.named_modules() if isinstance(m, LoraLayer)]


@pytest.mark.parametrize("form", FORMS)
def test_layers_to_transform_gets_the_layers_that_were_named(llama, ids, form):
    model = get_peft_model(llama(), lora_config(form, layers_to_transform=[1]))
    assert len(adapted(model)) == len(LLAMA_TARGETS)
    assert all(".layers.1." in name for name in adapted(model))
    assert relative(logits(model, ids), logits(llama(), ids)) < 1e-5
    train(model, ids)
    assert relative(logits(model, ids), logits(llama(), ids)) > 0.01
    assert relative(logits(model.unload(), ids), logits(llama(), ids)) < 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_exclude_modules_are_left_alone(llama, ids, form):
    """Also by the pre-flight: an excluded layer that LoRAM could not go on is no problem."""
    base = llama()
    base.model.layers[0].mlp.down_proj.weight.data.zero_()
    model = get_peft_model(base, lora_config(form, exclude_modules=[r"layers.0.mlp.down_proj"]))
    assert len(adapted(model)) == 2 * len(LLAMA_TARGETS) - 1
    train(model, ids)
    assert not model.get_base_model().model.layers[0].mlp.down_proj.weight.any()


@pytest.mark.parametrize("form", FORMS)
def test_all_linear_is_every_linear_but_the_head(llama, ids, form):
    model = get_peft_model(llama(), lora_config(form, target_modules="all-linear"))
    assert len(adapted(model)) == 14
    assert not any(HEAD in name for name in adapted(model))
    train(model, ids)


@pytest.mark.parametrize("form", FORMS)
def test_modules_to_save_train_travel_and_go_back(llama, ids, tmp_path, form):
    model = get_peft_model(llama(), lora_config(form, modules_to_save=[HEAD]))
    assert relative(logits(model, ids), logits(llama(), ids)) < 1e-5
    head = llama().lm_head.weight.detach()
    train(model, ids)
    trained = model.get_base_model().lm_head.modules_to_save["default"].weight
    assert relative(trained, head) > 1e-3
    expected = logits(model, ids)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(llama(), tmp_path)
    assert relative(logits(loaded, ids), expected) < 1e-5
    with model.disable_adapter():
        assert relative(logits(model, ids), logits(llama(), ids)) < 1e-5
    assert relative(logits(loaded.merge_and_unload(), ids), expected) < 1e-4


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tied", [False, True])
def test_trainable_tokens_train_travel_and_go_back(llama, ids, tmp_path, form, tied):
    """Also where the tokens' embedding is the head: its weight is not a target of LoRAM."""
    tokens = sorted(set(ids[0].tolist()))[:3]
    config = lora_config(form, trainable_token_indices={"embed_tokens": tokens})
    model = get_peft_model(llama(tied=tied), config)
    plain = logits(llama(tied=tied), ids)
    assert relative(logits(model, ids), plain) < 1e-5
    train(model, ids)
    expected = logits(model, ids)
    deltas = [p for n, p in model.named_parameters() if "trainable_tokens_delta" in n]
    assert deltas
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(llama(tied=tied), tmp_path)
    assert relative(logits(loaded, ids), expected) < 1e-5
    with model.disable_adapter():
        assert relative(logits(model, ids), plain) < 1e-5
    assert relative(logits(loaded.merge_and_unload(), ids), expected) < 1e-4


@pytest.mark.parametrize("form", FORMS)
def test_lora_bias_trains_in_the_base_and_goes_back(llama, ids, tmp_path, form):
    """`bias="lora_only"`: biases of the base are trained in place, as PEFT does for any LoRA."""
    base = llama()
    for layer in base.model.layers:
        layer.mlp.up_proj.bias = torch.nn.Parameter(torch.zeros(48))
    model = get_peft_model(base, lora_config(form, bias="lora_only"))
    train(model, ids)
    biases = [layer.get_base_layer().bias for layer in lora_layers(model)]
    assert any(bias is not None and bias.any() for bias in biases)


# ---- a batch of several adapters -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mixed_batch_of_loram_and_plain_lora_equals_separate_runs(llama, ids, dtype):
    """Other ranks, alphas and bases in each row, float32 factors over either base."""
    settings = {
        "first": lora_config("loram", r=2, lora_alpha=6),
        "second": lora_config("loram(basis=gaussian, seed=4)", use_rslora=True),
        "plain": lora_config(True, r=3),
    }
    model = get_peft_model(llama(dtype=dtype), settings["first"], "first")
    for seed, (name, config) in enumerate(settings.items()):
        if name != "first":
            model.add_adapter(name, config)
        scramble(model, name, seed)
    names = ["second", "plain", "first", "__base__", "second", "first"]
    batch = torch.cat([ids, ids.flip(0)])
    mixed = logits(model, batch, adapter_names=names)
    for row, name in enumerate(names):
        if name == "__base__":
            alone = logits(llama(dtype=dtype), batch)
        else:
            model.set_adapter(name)
            alone = logits(model, batch)
        bound = 1e-5 if dtype == torch.float32 else 0.03
        assert relative(mixed[row], alone[row]) < bound


# ---- merging -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_safe_merge_refuses_broken_factors_and_leaves_the_base(llama, form, bad):
    model = get_peft_model(llama(), lora_config(form))
    layers = lora_layers(model)
    layers[-1].lora_B["default"].weight.data[0, 0] = bad
    before = [layer.get_base_layer().weight.detach().clone() for layer in layers]
    with pytest.raises(ValueError, match="NaNs detected"):
        layers[-1].merge(safe_merge=True)
    assert not layers[-1].merged
    with pytest.raises(ValueError, match="NaNs detected"):
        model.merge_adapter(safe_merge=True)
    assert torch.equal(layers[-1].get_base_layer().weight, before[-1])


@pytest.mark.parametrize("kind", ["ties_svd", "magnitude_prune_svd"])
def test_pruned_sums_work_on_the_true_updates(llama, kind):
    """The random kinds, dare, take the same way through PEFT."""
    from peft.utils.merge_utils import magnitude_prune, ties

    configs = [lora_config(i, target_modules=["k_proj"]) for i in ("loram", "loram(basis=etf)")]
    model = get_peft_model(llama(), configs[0], "first")
    model.add_adapter("second", configs[1])
    for seed, name in enumerate(("first", "second")):
        scramble(model, name, seed)
    names, weights = ["first", "second"], [0.7, 0.4]
    model.add_weighted_adapter(names, weights, "sum", kind, svd_rank=16, density=0.6)
    for layer in lora_layers(model, "sum"):
        deltas = [layer.get_delta_weight(name).detach() for name in names]
        if kind == "ties_svd":
            wanted = ties(deltas, torch.tensor(weights), 0.6, "total")
        else:
            wanted = magnitude_prune(deltas, torch.tensor(weights), 0.6)
        assert relative(layer.get_delta_weight("sum"), wanted) < 1e-4
