"""Without processes: the product through the factors' modules, and a process without weights.

The real thing is in test_sharded_training.py; ZeRO-3 is stood in for here by its mark on a weight.
"""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

import loram
from conftest import make_llama
from loram.peft import sharding

FORMS = ["loram", "loram_residual"]


@pytest.fixture(params=FORMS)
def model(request) -> nn.Module:
    base = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 8)).double()
    config = LoraConfig(
        r=3, lora_alpha=6, target_modules=["0", "2"], init_lora_weights=request.param
    )
    model = get_peft_model(base, config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def outcome(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    y = model(x)
    y.square().sum().backward()
    return [y, *(p.grad for p in model.parameters() if p.requires_grad)]


def test_the_modules_give_the_fused_product_and_its_gradients(model):
    x = torch.randn(5, 8, dtype=torch.float64)
    marked = copy.deepcopy(model)
    for name, parameter in marked.named_parameters():
        if "lora_A" in name:
            parameter.ds_id = 0
    called = []
    for name, module in marked.named_modules():
        if name.endswith(("lora_A.default", "lora_B.default")):
            module.register_forward_hook(lambda *_, name=name: called.append(name))
    for got, expected in zip(outcome(marked, x), outcome(model, x), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)
    assert len(called) == len(set(called)) == 4  # each factor's module, once


@pytest.fixture
def without_weights(monkeypatch) -> nn.Module:
    """The base as Transformers gives it to all but the first process of a node."""
    monkeypatch.setattr(sharding, "is_fsdp_enabled", lambda: True)
    monkeypatch.setattr(sharding, "is_local_dist_rank_0", lambda: False)
    return make_llama().to("meta")


def test_a_process_without_weights_waits_for_its_records(without_weights):
    model = get_peft_model(without_weights, LoraConfig(r=4, init_lora_weights="loram"))
    state = model.state_dict()
    assert {tensor.device.type for tensor in state.values()} == {"meta"}
    assert state.keys() == (
        get_peft_model(make_llama(), LoraConfig(r=4, init_lora_weights=True)).state_dict().keys()
        | {name for name in state if "lora_basis" in name}
    )


def test_a_process_without_weights_cannot_rewrite_them(without_weights):
    with pytest.raises(loram.LoramError, match="meta device"):
        get_peft_model(without_weights, LoraConfig(r=4, init_lora_weights="loram_residual"))
