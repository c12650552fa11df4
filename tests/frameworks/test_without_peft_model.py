"""`model.add_adapter` and `inject_adapter_in_model` do what `get_peft_model` does."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

import loram
from conftest import make_llama

pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")

FORMS = ["loram", "loram_residual"]


def config(form: str) -> LoraConfig:
    return LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "o_proj", "up_proj", "down_proj"],
        init_lora_weights=form,
    )


def added(form: str) -> PreTrainedModel:
    model = make_llama()
    model.add_adapter(config(form))
    return model


def injected(form: str) -> nn.Module:
    return inject_adapter_in_model(config(form), make_llama())


WAYS: dict[str, Callable[[str], nn.Module]] = {"add_adapter": added, "inject": injected}


def factors(model: nn.Module) -> dict[str, Tensor]:
    """What trains, by PEFT's names without those of PeftModel."""
    return {
        name.removeprefix("base_model.model."): parameter
        for name, parameter in model.named_parameters()
        if "lora_" in name
    }


def train(model: nn.Module, ids: Tensor) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of a few steps, and the first gradients."""
    model.train()
    optimizer = torch.optim.AdamW(factors(model).values(), lr=1e-2)
    losses, first = [], {}
    for _ in range(4):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        first = first or {name: p.grad.clone() for name, p in factors(model).items()}
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses, first


def logits(model: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), name


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", WAYS)
def test_the_training_run_is_that_of_a_peft_model(ids, way, form):
    reference, model = get_peft_model(make_llama(), config(form)).eval(), WAYS[way](form).eval()
    assert torch.equal(logits(model, ids), logits(reference, ids))
    (losses, gradients), (expected, their_gradients) = train(model, ids), train(reference, ids)
    assert losses == expected
    assert losses[-1] < losses[0]
    assert_same(gradients, their_gradients)
    assert_same(factors(model), factors(reference))
    assert torch.equal(logits(model, ids), logits(reference, ids))


@pytest.mark.parametrize("form", FORMS)
def test_only_the_factors_train(form):
    for make in WAYS.values():
        trainable = {n for n, p in make(form).named_parameters() if p.requires_grad}
        assert trainable
        assert all(".lora_A." in name or ".lora_B." in name for name in trainable)


@pytest.mark.parametrize("form", FORMS)
def test_transformers_saves_what_everything_loads(ids, tmp_path, form):
    """The folder of `model.save_pretrained` goes into both PEFT and Transformers."""
    model = added(form)
    train(model, ids)
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "adapter_model.safetensors")
    assert sum("lora_basis" in name for name in state) == len(state) // 3
    loaded = make_llama()
    loaded.load_adapter(str(tmp_path))
    for other in (loaded, PeftModel.from_pretrained(make_llama(), str(tmp_path))):
        assert torch.equal(logits(other.eval(), ids), logits(model, ids))


def test_a_base_and_its_adapter_load_in_one_call(ids, tmp_path):
    """`from_pretrained` of an adapter's folder, which names its base."""
    make_llama().save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model = get_peft_model(base, config("loram"))
    train(model, ids)
    model.save_pretrained(str(tmp_path / "adapter"))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter")
    assert torch.equal(logits(loaded.eval(), ids), logits(model, ids))


@pytest.mark.parametrize("form", FORMS)
def test_an_injected_adapter_round_trips_by_its_state_dict(ids, form):
    model = injected(form)
    train(model, ids)
    state = {n: t.clone() for n, t in get_peft_model_state_dict(model).items()}
    fresh = injected(form)
    result = set_peft_model_state_dict(fresh, state)
    assert not result.unexpected_keys
    assert torch.equal(logits(fresh.eval(), ids), logits(model, ids))


@pytest.mark.parametrize("form", FORMS)
def test_adapters_switch_off_and_on(ids, form):
    model, base = added(form), make_llama().eval()
    train(model, ids)
    on = logits(model, ids)
    model.disable_adapters()
    tolerance = {} if form == "loram_residual" else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(logits(model, ids), logits(base, ids), **tolerance)
    assert not torch.equal(on, logits(base, ids))
    model.enable_adapters()
    assert torch.equal(logits(model, ids), on)


def test_two_adapters_share_a_base_and_one_goes(ids):
    model = added("loram")
    train(model, ids)
    first = logits(model, ids)
    model.add_adapter(config("loram(gain=0.3)"), "second")
    model.set_adapter("second")
    assert torch.equal(logits(model, ids), logits(make_llama().eval(), ids))
    model.set_adapter("default")
    assert torch.equal(logits(model, ids), first)
    model.delete_adapter("second")
    assert torch.equal(logits(model, ids), first)


def test_deleting_a_residual_adapter_gives_the_base_back(ids):
    model = added("loram_residual")
    model.delete_adapter("default")
    torch.testing.assert_close(logits(model, ids), logits(make_llama().eval(), ids))


def test_a_refusal_changes_nothing(ids):
    model = added("loram")
    train(model, ids)
    before = logits(model, ids)
    with pytest.raises(loram.LoramError, match="must be the only adapter"):
        model.add_adapter(config("loram_residual"), "two")
    assert torch.equal(logits(model, ids), before)


def test_a_folder_whose_records_were_stripped_is_refused(ids, tmp_path):
    from safetensors.torch import save_file

    model = added("loram")
    train(model, ids)
    model.save_pretrained(tmp_path)
    file = Path(tmp_path) / "adapter_model.safetensors"
    state = {name: t for name, t in load_file(file).items() if "lora_basis" not in name}
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(loram.LoramError, match="lora_basis"):
        make_llama().load_adapter(str(tmp_path))
