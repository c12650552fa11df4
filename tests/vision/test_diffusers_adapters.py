"""`add_adapter` on diffusers' own models: every method that PEFT can start there, both forms."""

import diffusion_tiny as tiny
import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

import loram
from loram.methods import METHODS

FORMS = ("loram", "loram_residual")
# What needs no data: the rest starts from batches of the model's own inputs.
WITHOUT_DATA = [name for name, row in METHODS.items() if row.init is not None and not row.data]


def added(make, init, targets=None, **options) -> nn.Module:
    model = make().eval()
    targets = targets or tiny.ATTENTION
    model.add_adapter(
        LoraConfig(r=2, lora_alpha=4, target_modules=targets, init_lora_weights=init, **options)
    )
    return model


def output(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(**tiny.inputs(model)).sample


def train(model: nn.Module, steps: int = 3, lr: float = 3e-3) -> list[float]:
    batch = tiny.inputs(model)
    goal = torch.randn(output(model).shape, generator=torch.Generator().manual_seed(5))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    losses = []
    for _ in range(steps):
        loss = (model(**batch).sample - goal).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


# All rows on transformers; on UNets one of each way to start.
UNETS = ("lora", "pissa", "olora", "orthogonal", "loram", "loram-residual")
STARTS = [("flux", method) for method in WITHOUT_DATA] + [("sd", method) for method in UNETS]


@pytest.mark.parametrize(("name", "method"), STARTS)
def test_every_method_starts_at_the_pretrained_model_and_trains(name, method):
    row = METHODS[method]
    make = tiny.MODELS[name]
    model = added(make, row.init, use_rslora=row.rslora)
    torch.testing.assert_close(output(model), output(make().eval()), rtol=1e-4, atol=1e-4)
    losses = train(model)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", tiny.MODELS)
def test_the_deviation_form_starts_bit_for_bit(name):
    make = tiny.MODELS[name]
    assert torch.equal(output(added(make, "loram")), output(make().eval()))


@pytest.mark.parametrize("name", tiny.MODELS)
def test_both_forms_are_one_training_run(name, monkeypatch):
    """In float64, but for the embeddings of time steps, which are float32 in these models."""
    inputs = tiny.inputs
    monkeypatch.setattr(tiny, "inputs", lambda model: _double(inputs(model)))
    runs = [train(added(lambda: tiny.MODELS[name]().double(), form)) for form in FORMS]
    assert runs[0] == pytest.approx(runs[1], rel=1e-5)


def _double(value):
    if isinstance(value, dict):
        return {key: _double(each) for key, each in value.items()}
    return value.double() if value.is_floating_point() else value


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_convolutions_take_the_deviation_form(name):
    model = added(tiny.MODELS[name], "loram", ["conv1", "conv2", "conv_in"])
    assert torch.equal(output(model), output(tiny.MODELS[name]().eval()))
    losses = train(model)
    assert losses[-1] < losses[0]


def test_convolutions_refuse_the_residual_form_by_name():
    with pytest.raises(loram.LoramError, match=r"down_blocks\.0\.resnets\.0\.conv1: Conv2d"):
        added(tiny.sd_unet, "loram_residual", ["conv1"])


@pytest.mark.parametrize("form", FORMS)
def test_a_lora_scale_scales_the_update_or_is_refused(form):
    model = added(tiny.sd_unet, form)
    train(model)
    base, full = output(tiny.sd_unet().eval()), output(model)
    batch = tiny.inputs(model)
    with torch.no_grad():
        if form == "loram_residual":
            with pytest.raises(loram.LoramError, match="scaling of a loram_residual"):
                model(**batch, cross_attention_kwargs={"scale": 0.0})
            return
        off = model(**batch, cross_attention_kwargs={"scale": 0.0}).sample
    torch.testing.assert_close(off, base)
    assert not torch.allclose(full, base, atol=1e-4)
    assert torch.equal(output(model), full)


@pytest.mark.parametrize("form", FORMS)
def test_adapters_switch_off_and_go(form):
    model = added(tiny.flux_transformer, form)
    train(model)
    base = output(tiny.flux_transformer().eval())
    model.disable_adapters()
    torch.testing.assert_close(output(model), base)
    model.enable_adapters()
    assert not torch.allclose(output(model), base, atol=1e-4)
    model.delete_adapters("default")
    torch.testing.assert_close(output(model), base)


@pytest.mark.parametrize("form", FORMS)
def test_the_raw_state_round_trips_between_models_made_alike(form):
    model, other = (added(tiny.sd3_transformer, form) for _ in range(2))
    train(model)
    state = {key: each.clone() for key, each in get_peft_model_state_dict(model).items()}
    assert not set_peft_model_state_dict(other, state).unexpected_keys
    assert torch.equal(output(other), output(model))
