"""MultiheadAttention: where PEFT reads weights without asking, and what that would do."""

import copy

import pytest
import torch
from coverage_layers import CASES
from peft import LoraConfig, get_peft_model
from small import base_stays, lora_config, lora_layers, nothing_changes, relative
from torch import nn

import loram
from loram import LoramError
from loram.peft.layers import base_weight, factor_weights

CASE = CASES["MultiheadAttention"][""]


def scrambled(model: nn.Module) -> nn.Module:
    torch.manual_seed(6)
    for layer in lora_layers(model):
        for factor in factor_weights(layer, "default"):
            factor.data.normal_(std=0.1)
    return model


def expected_output(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The base with each update added to its weight, once."""
    attention, projection = lora_layers(model)
    net = CASE.net(x.dtype)
    with torch.no_grad():
        net.layer.in_proj_weight += attention.get_delta_weight("default")
        net.layer.out_proj.weight += projection.get_delta_weight("default")
    return net(x)


def test_both_weights_have_their_own_beta():
    model = get_peft_model(CASE.net(), CASE.config())
    for layer in lora_layers(model):
        expected = loram.factors(base_weight(layer).detach(), 2).beta
        assert layer.lora_basis["default"].beta == expected
    assert [base_weight(layer).shape for layer in lora_layers(model)] == [(24, 8), (8, 8)]


def test_the_projections_update_is_there_once():
    x = CASE.input(torch.float64)
    model = scrambled(get_peft_model(CASE.net(torch.float64), CASE.config()))
    assert relative(model(x), expected_output(model, x)) < 1e-12
    merged = copy.deepcopy(model).merge_and_unload()
    assert relative(merged(x), expected_output(model, x)) < 1e-12


def test_why_export_is_refused():
    """Stock PEFT 0.21 applies a plain LoRA's update to the projection twice. When this fails, PEFT
    has been mended: export can be allowed."""
    x = CASE.input(torch.float64)
    plain = scrambled(get_peft_model(CASE.net(torch.float64), CASE.config(True)))
    assert relative(plain(x), expected_output(plain, x)) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_forward_leaves_every_bit_and_object_of_the_base(dtype):
    net, x = CASE.net(dtype), CASE.input(dtype)
    before = [net.layer.in_proj_weight, net.layer.out_proj.weight]
    with base_stays(net):
        model = scrambled(get_peft_model(net, CASE.config()))
        attention = model.base_model.model.layer.base_layer
        parameters = [attention.in_proj_weight, attention.out_proj.weight]
        for _ in range(3):
            model(x).square().mean().backward()
            for mine, theirs in zip(parameters, before, strict=True):
                assert torch.equal(mine, theirs)
        assert attention.in_proj_weight is parameters[0]


@pytest.mark.parametrize("grad", [False, True])
def test_encoder_layer_does_not_pass_the_adapter_by(grad):
    """In evaluation TransformerEncoderLayer reads the weights itself, and calls no attention."""
    encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval()
    x = CASE.input()
    base = encoder(x)
    model = get_peft_model(encoder, lora_config(r=2, target_modules=["self_attn"]))
    assert relative(model(x), base) < 1e-6
    scrambled(model)
    with torch.set_grad_enabled(grad):
        evaluated = model(x)
    assert relative(evaluated, model.train()(x)) < 1e-6
    assert relative(evaluated, base) > 1e-2


@pytest.mark.parametrize("form", ["loram", "loram_residual"])
def test_projection_alone_is_refused(form):
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    for targets in (["out_proj"], ["self_attn", "out_proj"]):
        config = LoraConfig(r=2, init_lora_weights=form, target_modules=targets)
        with nothing_changes(model), pytest.raises(LoramError, match="out_proj"):
            get_peft_model(model, config)


def test_widths_that_differ_are_refused():
    net = CASE.net()
    net.layer = nn.MultiheadAttention(8, 2, kdim=4, batch_first=True)
    with nothing_changes(net), pytest.raises(LoramError, match="differ in width"):
        get_peft_model(net, CASE.config())
