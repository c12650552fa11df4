"""`init_lora_weights="milora"` and `"lora_one"` in PEFT, against NumPy in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import LoraLayer
from small import (
    GPT2_TARGETS,
    LLAMA_TARGETS,
    base_stays,
    gpt2_config,
    logits,
    lora_config,
    lora_layers,
    nothing_changes,
    relative,
    train,
)
from torch import Tensor, nn

from loram import LoramError, calibrate
from loram.peft.calibration import GRADIENT, gradient_of
from loram.peft.layers import base_weight
from loram.peft.register import register, unregister

OURS = ["milora", "lora_one"]
GAMMA = 128


def batch(ids: Tensor) -> dict[str, Tensor]:
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def adapted(base: nn.Module, config: LoraConfig, ids: Tensor) -> PeftModel:
    calibrate(base, config, [batch(ids)])
    return get_peft_model(base, config)


def weights(model: nn.Module, targets: list[str]) -> dict[str, Tensor]:
    """W (n, m) in float64, by name."""
    return {
        name: base_weight(module).detach().double().clone()
        for name, module in model.named_modules()
        if name.rsplit(".", 1)[-1] in targets and not isinstance(module, LoraLayer)
    }


def named(model: PeftModel) -> dict[str, Any]:
    layers = set(lora_layers(model))
    return {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if module in layers
    }


def update(layer: Any) -> Tensor:
    """sBA in float64."""
    A, B = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    return layer.scaling["default"] * B.detach().double() @ A.detach().double()


MODELS = {
    "llama": (LLAMA_TARGETS, lora_config),
    "gpt2": (GPT2_TARGETS, gpt2_config),
}
SETTINGS = {
    "s = 1": {},
    "s = 2": {"lora_alpha": 8},
    "rslora": {"use_rslora": True},
    "ranks": {"rank_pattern": {"o_proj|c_proj": 7}, "alpha_pattern": {"down_proj|c_fc": 2}},
}


@pytest.fixture(params=MODELS)
def kind(request, llama, gpt2):
    """(maker, targets, config) of the Llama, and of the GPT-2 with its Conv1D."""
    targets, config = MODELS[request.param]
    return {"llama": llama, "gpt2": gpt2}[request.param], targets, config


# ---- MiLoRA --------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_milora_holds_the_last_components_and_the_base_the_rest(kind, ids, settings):
    make, targets, config = kind
    base = make()
    before = weights(base, targets)
    expected = logits(base, ids)
    model = get_peft_model(base, config("milora", **settings))
    assert relative(logits(model, ids), expected) < 1e-5
    for name, layer in named(model).items():
        W, r = before[name].numpy(), layer.r["default"]
        U, S, Vh = np.linalg.svd(W, full_matrices=False)
        minor = torch.from_numpy(U[:, -r:] * S[-r:] @ Vh[-r:])
        assert relative(update(layer), minor) < 1e-5, name
        assert relative(base_weight(layer).double() + update(layer), before[name]) < 1e-6
        A, B = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        share = torch.from_numpy(S[-r:]).float() / layer.scaling["default"]
        torch.testing.assert_close(A @ A.T, share.diag(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(B.T @ B, share.diag(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("autocast", [True, False])
def test_milora_over_bfloat16_takes_out_what_it_puts_in(llama, autocast):
    """The factors are rounded first, so that W′ + sBA is W to one rounding of W′."""
    base = llama(dtype=torch.bfloat16)
    before = weights(base, LLAMA_TARGETS)
    model = get_peft_model(base, lora_config("milora"), autocast_adapter_dtype=autocast)
    for name, layer in named(model).items():
        A = layer.lora_A["default"].weight
        assert A.dtype == (torch.float32 if autocast else torch.bfloat16)
        rest = base_weight(layer).double()
        error = (rest + update(layer) - before[name]).abs()
        assert (error <= 2**-8 * rest.abs() + 1e-9).all(), name


def test_milora_refuses_tied_weights(llama):
    model = llama(tied=True)
    config = lora_config("milora", target_modules=["q_proj", "lm_head"])
    with (
        nothing_changes(model),
        pytest.raises(LoramError, match=r"lm_head: .*shared with another.*exclude_modules"),
    ):
        get_peft_model(model, config)


@pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings=True. and a tied layer")
def test_lora_one_goes_on_tied_weights_and_keeps_them(llama, ids):
    model = llama(tied=True)
    config = lora_config("lora_one", target_modules=["q_proj", "lm_head"])
    with base_stays(model):
        adapted(model, config, ids)


# ---- LoRA-One ------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_lora_one_starts_a_step_against_the_gradient_and_keeps_the_base(kind, ids, settings):
    make, targets, config = kind
    base, oracle = make(), make().double()
    oracle(**batch(ids)).loss.backward()
    with base_stays(base):
        model = adapted(base, config("lora_one", **settings), ids)
    for name, layer in named(model).items():
        module = oracle.get_submodule(name)
        G = module.weight.grad if targets is LLAMA_TARGETS else module.weight.grad.T
        r, s = layer.r["default"], layer.scaling["default"]
        U, S, Vh = np.linalg.svd(-G.numpy(), full_matrices=False)
        step = torch.from_numpy(U[:, :r] * (S[:r] / S[0]) @ Vh[:r]) * s / GAMMA
        assert relative(update(layer), step) < 1e-4, name
        A, B = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        share = torch.from_numpy(S[:r] / S[0] / GAMMA).float().diag()
        torch.testing.assert_close(A @ A.T, share, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(B.T @ B, share, rtol=1e-4, atol=1e-7)
        assert GRADIENT not in vars(layer.get_base_layer())


def test_lora_one_starts_lower_than_the_pretrained_model(llama, ids):
    """A step down the gradient of the very batch."""
    base = llama()
    before = base(**batch(ids)).loss.item()
    model = adapted(base, lora_config("lora_one"), ids)
    assert model(**batch(ids)).loss.item() < before


def test_lora_one_over_bfloat16(llama, ids):
    base = llama(dtype=torch.bfloat16)
    config = lora_config("lora_one")
    calibrate(base, config, [batch(ids)])
    gradients = {
        n: gradient_of(m, "lora_one").double()
        for n, m in base.named_modules()
        if GRADIENT in vars(m)
    }
    with base_stays(base):
        model = get_peft_model(base, config)
    for name, layer in named(model).items():
        U, S, Vh = np.linalg.svd(-gradients[name].numpy(), full_matrices=False)
        step = torch.from_numpy(U[:, :4] * (S[:4] / S[0]) @ Vh[:4]) / GAMMA
        assert relative(update(layer), step) < 0.02, name
        assert layer.lora_A["default"].weight.dtype == torch.float32


# ---- refusals ------------------------------------------------------------------------------------


class Pair(nn.Module):
    """A layer that is fine, before one that may not be."""

    def __init__(self, bad: nn.Module) -> None:
        super().__init__()
        self.good, self.bad = nn.Linear(8, 8), bad
        for module in (self.good, bad):
            if not hasattr(module, "has_gradient"):
                setattr(module, GRADIENT, torch.randn(module.weight.shape))


def spoilt(value: float) -> nn.Linear:
    layer = nn.Linear(8, 8)
    with torch.no_grad():
        layer.weight[1, 2] = value
    return layer


def integer() -> nn.Linear:
    layer = nn.Linear(8, 8)
    layer.weight = nn.Parameter(torch.ones(8, 8, dtype=torch.int8), requires_grad=False)
    return layer


def blank() -> nn.Linear:
    layer = nn.Linear(8, 8)
    layer.has_gradient = None
    return layer


def gradient(value: float) -> nn.Linear:
    layer = blank()
    setattr(layer, GRADIENT, torch.full((8, 8), value))
    return layer


BAD = {
    "embedding": (lambda: nn.Embedding(8, 8), OURS, "Embedding.*exclude_modules"),
    "conv2d": (lambda: nn.Conv2d(8, 8, 1), OURS, "Conv2d.*exclude_modules"),
    "quantised": (integer, OURS, "int8.*quantised weights"),
    "too narrow": (lambda: nn.Linear(8, 3), OURS, r"1 ≤ r ≤ min\(n, m\) = 3.*got r = 4"),
    "nan": (lambda: spoilt(float("nan")), ["milora"], "NaN or Inf"),
    "inf": (lambda: spoilt(float("inf")), ["milora"], "NaN or Inf"),
    "no gradient": (blank, ["lora_one"], r"call loram\.calibrate\(model, config, batches\)"),
    "nan gradient": (lambda: gradient(float("nan")), ["lora_one"], "NaN or Inf"),
    "zero gradient": (lambda: gradient(0.0), ["lora_one"], "the gradient is all zero"),
}


@pytest.mark.parametrize(
    ("bad", "init"), [(bad, init) for bad, (_, inits, _) in BAD.items() for init in inits]
)
def test_what_they_cannot_go_on_is_named_and_nothing_changes(bad, init):
    make, _, message = BAD[bad]
    model = Pair(make())
    config = lora_config(init, target_modules=["good", "bad"])
    with nothing_changes(model), pytest.raises(LoramError, match=f"bad: .*{message}") as refusal:
        get_peft_model(model, config)
    assert "good" not in str(refusal.value)
    assert "nothing was changed" in str(refusal.value)
    assert hasattr(model.good, GRADIENT)


# ---- save and load -------------------------------------------------------------------------------


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("init", OURS)
def test_a_saved_adapter_loads_as_it_was(kind, ids, tmp_path, init, low):
    make, _, config = kind
    model = adapted(make(), config(init), ids)
    train(model, ids, lr=0.05)
    model.save_pretrained(tmp_path)
    fresh = make()
    loaded = PeftModel.from_pretrained(fresh, tmp_path, low_cpu_mem_usage=low)
    assert relative(logits(loaded, ids), logits(model, ids)) < 1e-6
    for mine, theirs in zip(lora_layers(loaded), lora_layers(model), strict=True):
        assert torch.equal(base_weight(mine), base_weight(theirs))


@pytest.mark.parametrize("init", OURS)
def test_a_checkpoint_loads_into_the_adapter_that_made_it(llama, ids, tmp_path, init):
    """As the Trainer resumes: the base is not rewritten again."""
    model = adapted(llama(), lora_config(init), ids)
    train(model, ids, lr=0.05)
    model.save_pretrained(tmp_path)
    resumed = adapted(llama(), lora_config(init), ids)
    with base_stays(resumed.get_base_model().model.embed_tokens):
        resumed.load_adapter(tmp_path, "default", is_trainable=True)
    assert torch.equal(logits(resumed, ids), logits(model, ids))


def test_milora_is_written_as_plain_lora_of_twice_the_rank(llama, ids, tmp_path):
    model = get_peft_model(llama(), lora_config("milora", lora_alpha=8))
    model.save_pretrained(tmp_path / "start")
    train(model, ids, lr=0.05)
    model.save_pretrained(
        str(tmp_path / "plain"), path_initial_model_for_weight_conversion=str(tmp_path / "start")
    )
    base = llama()
    with base_stays(base):
        loaded = PeftModel.from_pretrained(base, tmp_path / "plain")
    assert relative(logits(loaded, ids), logits(model, ids)) < 1e-5
    assert {layer.r["default"] for layer in lora_layers(loaded)} == {8}


def test_unloading_milora_leaves_the_rest_as_peft_s_pissa_does(llama, ids):
    base = llama()
    before = weights(base, LLAMA_TARGETS)
    model = get_peft_model(base, lora_config("milora"))
    merged = model.merge_and_unload()
    for name, W in weights(merged, LLAMA_TARGETS).items():
        assert relative(W, before[name]) < 1e-6


# ---- other adapters ------------------------------------------------------------------------------


@pytest.mark.parametrize("loram", ["loram", "loram_residual"])
def test_milora_and_loram_do_not_share_a_base(llama, loram):
    model = get_peft_model(llama(), lora_config("milora"))
    with nothing_changes(model), pytest.raises(LoramError, match="has rewritten"):
        model.add_adapter("second", lora_config(loram))
    model = get_peft_model(llama(), lora_config(loram))
    with (
        nothing_changes(model),
        pytest.raises(LoramError, match=r"milora.*base of its own|again|rewritten"),
    ):
        model.add_adapter("second", lora_config("milora"))


def test_lora_one_and_loram_share_a_base(llama, ids):
    base = llama()
    alone = logits(adapted(llama(), lora_config("lora_one"), ids), ids)
    calibrate(base, lora_config("lora_one"), [batch(ids)])
    with base_stays(base):
        model = get_peft_model(base, lora_config("loram"))
        model.add_adapter("second", lora_config("lora_one"))
    model.set_adapter("second")
    assert relative(logits(model, ids), alone) < 1e-6
    model.set_adapter("default")
    assert torch.equal(logits(model, ids), logits(llama(), ids))


def test_without_registration_the_strings_are_unknown():
    unregister()
    try:
        for init in OURS:
            model = nn.Sequential(nn.Linear(8, 8))
            with pytest.raises(ValueError, match="Unknown initialization"):
                get_peft_model(model, LoraConfig(init_lora_weights=init, target_modules=["0"]))
    finally:
        register()
