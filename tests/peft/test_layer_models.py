"""Layers beyond Linear in whole models: embeddings, tied heads, experts, a vision tower's first."""

from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from small import (
    base_stays,
    logits,
    lora_config,
    lora_layers,
    nothing_changes,
    relative,
    state,
    train,
    trained,
)
from torch import nn
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GptOssConfig,
    GptOssForCausalLM,
    PreTrainedModel,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    ViTConfig,
    ViTModel,
)

import loram
from loram import LoramError
from loram.peft.export import export_plain
from loram.peft.layers import base_weight, factor_weights, record_of

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.2,
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Model with `tie_word_embeddings=True`:UserWarning"),
]


def qwen() -> PreTrainedModel:
    """Experts stored (experts, out, in)."""
    torch.manual_seed(2)
    moe = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **moe)).eval()


def gpt_oss() -> PreTrainedModel:
    """Experts stored (experts, in, out)."""
    torch.manual_seed(2)
    moe = {"num_local_experts": 4, "num_experts_per_tok": 2}
    return GptOssForCausalLM(GptOssConfig(**SIZES, **moe)).eval()


def gemma() -> PreTrainedModel:
    """Embeddings times √width, tied to the head."""
    torch.manual_seed(2)
    return Gemma3ForCausalLM(Gemma3TextConfig(**SIZES)).eval()


# ---- experts -------------------------------------------------------------------------------------


def experts_config(init: str = "loram", **settings) -> LoraConfig:
    both = ["experts.gate_up_proj", "experts.down_proj"]
    defaults = {"target_modules": ["q_proj"], "target_parameters": both}
    return lora_config(init, **(defaults | settings))


@pytest.mark.parametrize("make", [qwen, gpt_oss])
def test_experts_of_a_model(make: Callable[[], PreTrainedModel], ids, tmp_path):
    base = make()
    expected = logits(base, ids)
    with base_stays(base):
        model = get_peft_model(base, experts_config())
        assert torch.equal(logits(model, ids), expected)
        before = model(input_ids=ids, labels=ids).loss.item()
        train(model, ids, lr=0.1)
        assert model(input_ids=ids, labels=ids).loss.item() < before
        with model.disable_adapter():
            assert torch.equal(logits(model, ids), expected)
    got = logits(model, ids)
    model.save_pretrained(tmp_path / "loram")
    assert torch.equal(logits(PeftModel.from_pretrained(make(), tmp_path / "loram"), ids), got)
    own = make()
    own.load_adapter(str(tmp_path / "loram"))
    assert torch.equal(logits(own, ids), got)
    export_plain(tmp_path / "loram", tmp_path / "plain")
    plain = PeftModel.from_pretrained(make(), tmp_path / "plain")
    assert relative(logits(plain, ids), got) < 1e-5
    assert relative(logits(model.merge_and_unload(), ids), got) < 1e-5


def test_beta_of_a_stack_is_that_of_its_mean_square():
    """With the log gain: m, n and r of one expert, ν of all of them."""
    model = get_peft_model(qwen(), experts_config())
    for layer in lora_layers(model):
        W = base_weight(layer).detach()
        if W.ndim == 3:
            one = W.double().square().mean().sqrt().expand(W.shape[1:])
            expected = loram.factors(one, 4).beta
            assert record_of(layer, "default").beta == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_dropout": 0.1}, "lora_dropout.*target_parameters"),
        ({"target_modules": ["experts"]}, "name one of the two|Experts is not supported"),
        ({"use_dora": True}, "use_dora"),
        ({"init": "loram_residual"}, "init_lora_weights='loram'"),
    ],
)
def test_what_does_not_go_with_parameters_is_refused(settings, message):
    base = qwen()
    with nothing_changes(base), pytest.raises(LoramError, match=message):
        get_peft_model(base, experts_config(**settings))


def test_patterns_over_parameters_are_refused_by_the_export(ids, tmp_path):
    config = experts_config(rank_pattern={"experts.down_proj": 2}, alpha_pattern={"q_proj": 8})
    with pytest.warns(RuntimeWarning, match="rank_pattern"):  # PEFT's, which does apply it
        model = trained(qwen(), config, ids)
    assert {layer.r["default"] for layer in lora_layers(model)} == {2, 4}
    model.save_pretrained(tmp_path / "loram")
    with pytest.raises(LoramError, match=r"which parameter.*--merge"):
        export_plain(tmp_path / "loram", tmp_path / "plain")


# ---- embeddings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
def test_embeddings_and_head_of_a_model(llama, ids, tied, tmp_path):
    base = llama(tied=tied)
    expected = logits(base, ids)
    config = lora_config(target_modules=["embed_tokens", "lm_head", "q_proj"])
    with base_stays(base):
        model = trained(base, config, ids, lr=0.05)
        assert not torch.equal(logits(model, ids), expected)
        with model.disable_adapter():
            assert torch.equal(logits(model, ids), expected)
    got = logits(model, ids)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(llama(tied=tied), tmp_path)
    assert relative(logits(again, ids), got) < 1e-6


@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_residual_form_on_either_end_of_a_tie_is_refused(llama, target):
    base = llama(tied=True)
    config = lora_config("loram_residual", target_modules=[target])
    with nothing_changes(base), pytest.raises(LoramError, match=f"{target}: .*'loram'"):
        get_peft_model(base, config)


def test_scaled_embeddings_of_a_model(ids):
    base = gemma()
    expected = logits(base, ids)
    model = get_peft_model(base, lora_config(target_modules=["embed_tokens"]))
    assert torch.equal(logits(model, ids), expected)
    train(model, ids, lr=0.05)
    got = logits(model, ids)
    # Merging would change the head too, which is tied: only the look-up is compared.
    layer = lora_layers(model)[0]
    W = layer.get_base_layer().weight + layer.get_delta_weight("default")
    torch.testing.assert_close(layer(ids), W[ids] * 32**0.5)
    assert relative(got, expected) > 1e-3


def test_row_at_the_padding_index_never_changes(ids):
    model = get_peft_model(
        nn.Sequential(nn.Embedding(64, 8, padding_idx=5), nn.Linear(8, 64)),
        LoraConfig(r=2, init_lora_weights="loram", target_modules=["0"]),
    )
    (layer,) = lora_layers(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    everything = torch.arange(64)
    for _ in range(3):
        model(everything).square().mean().backward()
        optimizer.step()
    delta = layer.get_delta_weight("default")
    assert (delta[5] == 0).all()
    assert (delta[:5].abs().amax(1) > 0).all()
    assert (layer(torch.tensor([5])) == layer.get_base_layer().weight[5]).all()
    assert (factor_weights(layer, "default")[0][:, 5] == 0).all()


def test_embedding_that_computes_something_else_is_refused():
    class Shifted(nn.Embedding):
        embed_scale = 2.0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * self.embed_scale + 1

    base = nn.Sequential(Shifted(16, 8))
    config = LoraConfig(r=2, init_lora_weights="loram", target_modules=["0"])
    with nothing_changes(base), pytest.raises(LoramError, match="times embed_scale"):
        get_peft_model(base, config)


@pytest.mark.parametrize("options", [{"max_norm": 1.0}, {"sparse": True}], ids=str)
def test_embeddings_with_a_life_of_their_own_are_refused(options):
    base = nn.Sequential(nn.Embedding(16, 8, **options))
    config = LoraConfig(r=2, init_lora_weights="loram", target_modules=["0"])
    with nothing_changes(base), pytest.raises(LoramError, match=r"leave|set it to False"):
        get_peft_model(base, config)


# ---- convolutions --------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [2, 4])
def test_grouped_convolution_is_refused(groups):
    base = nn.Sequential(nn.Conv2d(4, 8, 3, groups=groups))
    config = LoraConfig(r=4, init_lora_weights="loram", target_modules=["0"])
    with nothing_changes(base), pytest.raises(LoramError, match=f"groups={groups}.*leave it out"):
        get_peft_model(base, config)


def test_patches_of_a_vision_model():
    torch.manual_seed(2)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    small = {"intermediate_size": 24, "image_size": 8, "patch_size": 4}
    base = ViTModel(ViTConfig(**shape, **small)).eval().requires_grad_(False)
    x = torch.randn(2, 3, 8, 8)
    expected, before = base(x).last_hidden_state, state(base)
    model = get_peft_model(base, lora_config(target_modules=["projection"]))
    assert torch.equal(model(x).last_hidden_state, expected)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    (model(x).last_hidden_state * torch.randn(16)).sum().backward()
    optimizer.step()
    assert relative(model(x).last_hidden_state, expected) > 1e-5
    restored = model.unload()
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(restored).items())
