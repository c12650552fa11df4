"""PEFT's optimisers that read A or B: the deviation form trains as the absolute form does."""

import pytest
import torch
from peft import get_peft_model
from peft.optimizers import (
    create_lorafa_optimizer,
    create_loraplus_optimizer,
    create_riemannian_optimizer,
)
from small import gpt2_config, lora_config, lora_layers, relative, state
from torch import nn

from loram import LoramError
from loram.peft import register, unregister


class Mlp(nn.Module):
    """Two layers that compute in the dtype of their weights: Llama's norms are float32 in part."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.up, self.down = nn.Linear(12, 20), nn.Linear(20, 8)
        self.double()

    def forward(self, x):
        return self.down(torch.tanh(self.up(x)))


def model_for(init, **settings):
    """A rank-3 adapter in float64, with s = 2."""
    settings = {"r": 3, "lora_alpha": 6, "target_modules": ["up", "down"]} | settings
    return get_peft_model(Mlp(), lora_config(init, **settings), autocast_adapter_dtype=False)


OPTIMIZERS = {
    "LoRA-FA": lambda m, **kw: create_lorafa_optimizer(m, r=3, lora_alpha=6, **kw),
    "Riemannian SGD": lambda m, **kw: create_riemannian_optimizer(m, torch.optim.SGD, **kw),
    "Riemannian AdamW": lambda m, **kw: create_riemannian_optimizer(
        m, torch.optim.AdamW, weight_decay=0.0, **kw
    ),
    "LoRA+": lambda m, **kw: create_loraplus_optimizer(
        m, torch.optim.AdamW, loraplus_lr_ratio=4.0, **kw
    ),
    "LoRA+ SGD": lambda m, **kw: create_loraplus_optimizer(
        m, torch.optim.SGD, loraplus_lr_ratio=4.0, **kw
    ),
}


def losses(model, optimizer, steps=12):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(16, 12, generator=generator, dtype=torch.float64)
    y = torch.randn(16, 8, generator=generator, dtype=torch.float64)
    seen = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    return torch.tensor(seen, dtype=torch.float64)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("init", ["", "(basis=gaussian, seed=2, gain=0.5)"])
def test_deviation_form_trains_as_the_absolute_form(name, init):
    curves = {}
    for form in ("loram", "loram_residual"):
        model = model_for(form + init)
        curves[form] = losses(model, OPTIMIZERS[name](model, lr=0.01))
    assert curves["loram"][-1] < 0.99 * curves["loram"][0]
    torch.testing.assert_close(curves["loram"], curves["loram_residual"], rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_plain_lora_is_left_as_it_is(name):
    model = model_for(True)
    with_loram = losses(model, OPTIMIZERS[name](model, lr=0.01))
    unregister()
    try:
        model = model_for(True)
        without = losses(model, OPTIMIZERS[name](model, lr=0.01))
    finally:
        register()
    assert torch.equal(with_loram, without)


def test_lora_fa_leaves_the_frozen_deviation_as_it_is():
    model = model_for("loram")
    for layer in lora_layers(model):
        layer.lora_A["default"].weight.data.normal_(std=0.1)
    before = {key: value for key, value in state(model).items() if ".lora_A." in key}
    losses(model, OPTIMIZERS["LoRA-FA"](model, lr=0.01))
    assert before
    for key, value in before.items():
        assert torch.equal(model.state_dict()[key], value)


def test_lora_fa_restores_the_deviation_when_a_step_fails(monkeypatch):
    model = model_for("loram")
    optimizer = OPTIMIZERS["LoRA-FA"](model, lr=0.01)
    model(torch.ones(2, 12, dtype=torch.float64)).sum().backward()
    monkeypatch.setattr(torch.linalg, "pinv", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        optimizer.step()
    assert not any(layer.lora_A["default"].weight.any() for layer in lora_layers(model))


def test_lora_fa_runs_a_closure_on_the_deviations():
    model = model_for("loram")
    optimizer = OPTIMIZERS["LoRA-FA"](model, lr=0.01)
    x = torch.ones(2, 12, dtype=torch.float64)
    expected = model(x).detach()

    def closure():
        with torch.enable_grad():
            out = model(x)
            out.sum().backward()
        return out.detach()

    assert torch.equal(optimizer.step(closure), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["LoRA-FA", "Riemannian AdamW"])
def test_absolute_factors_in_other_dtypes(dtype, name):
    """Within the rounding of one step."""
    steps = {}
    for form in ("loram", "loram_residual"):
        model = get_peft_model(
            Mlp().to(dtype),
            lora_config(form, r=3, lora_alpha=6, target_modules=["up", "down"]),
            autocast_adapter_dtype=False,
        )
        optimizer = OPTIMIZERS[name](model, lr=2.0**-6)
        before = [layer.lora_B["default"].weight.detach().clone() for layer in lora_layers(model)]
        x = torch.randn(16, 12, generator=torch.Generator().manual_seed(5)).to(dtype)
        model(x).square().sum().backward()
        optimizer.step()
        after = [layer.lora_B["default"].weight for layer in lora_layers(model)]
        steps[form] = [a - b for a, b in zip(after, before, strict=True)]
    for one, other in zip(*steps.values(), strict=True):
        assert relative(one, other) < (0.1 if dtype == torch.bfloat16 else 1e-3)


def test_optimizers_see_conv1d_in_the_deviation_form(gpt2, ids):
    ends = {}
    for form in ("loram", "loram_residual"):
        model = get_peft_model(gpt2(dtype=torch.float64), gpt2_config(form))
        optimizer = create_riemannian_optimizer(model, torch.optim.SGD, lr=0.05)
        for _ in range(3):
            optimizer.zero_grad()
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            optimizer.step()
        ends[form] = loss.item()
    assert ends["loram"] == pytest.approx(ends["loram_residual"], rel=1e-6)


# ---- what can't be seen is refused ---------------------------------------------------------------


def test_functions_imported_before_loram_are_caught_or_refused():
    """Their own names can't be wrapped: what they look up is, or the step refuses."""
    unregister()
    from peft.optimizers import create_lorafa_optimizer as lorafa
    from peft.optimizers import create_riemannian_optimizer as riemannian

    register()
    model = model_for("loram")
    with pytest.raises(LoramError, match="imported after loram"):
        losses(model, lorafa(model, r=3, lora_alpha=6, lr=0.01), steps=1)
    early, usual = model_for("loram"), model_for("loram")
    assert torch.equal(
        losses(early, riemannian(early, torch.optim.SGD, lr=0.01)),
        losses(usual, create_riemannian_optimizer(usual, torch.optim.SGD, lr=0.01)),
    )


@pytest.mark.filterwarnings("ignore:Adapter default was active which is now deleted")
def test_optimizer_of_a_deleted_adapter_says_so():
    model = model_for("loram")
    optimizer = OPTIMIZERS["LoRA-FA"](model, lr=0.01)
    model.add_adapter("other", lora_config("loram", target_modules=["up", "down"]))
    model.delete_adapter("default")
    with pytest.raises(LoramError, match="make the optimiser again"):
        optimizer.step()
