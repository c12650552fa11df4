"""Adapters on a quantised base from creation to unloading: the base is never touched."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training
from quantised_bases import Backend, base_weights, betas_of, each_kind
from small import logits, lora_config, relative, scramble, train, trained
from torch import Tensor

from loram import LoramError

pytest_plugins = ("quantised_fixtures",)


def assert_same_weights(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, weight in expected.items():
        assert torch.equal(got[name], weight), name


@each_kind()
def test_the_base_is_never_touched(backend: Backend, saved: Path, ids: Tensor) -> None:
    model = get_peft_model(backend.quantised(saved), lora_config())
    before, start = base_weights(model), logits(model, ids)
    train(model, ids)
    assert not torch.equal(logits(model, ids), start)
    assert_same_weights(base_weights(model), before)
    with model.disable_adapter():
        assert torch.equal(logits(model, ids), start)
    assert torch.equal(logits(model.unload(), ids), start)


@each_kind()
def test_deleting_the_adapter_leaves_the_base(backend: Backend, saved: Path, ids: Tensor) -> None:
    base = backend.quantised(saved)
    before = logits(base, ids)
    model = trained(base, lora_config(), ids)
    model.delete_adapter("default")
    assert torch.equal(logits(model.base_model.model, ids), before)


@each_kind()
def test_saved_and_loaded_it_is_the_same(
    backend: Backend, saved: Path, ids: Tensor, tmp_path: Path
) -> None:
    model = trained(backend.quantised(saved), lora_config(), ids)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(backend.quantised(saved), tmp_path).eval()
    assert betas_of(again) == betas_of(model)
    assert torch.equal(logits(again, ids), logits(model, ids))


@each_kind()
def test_several_adapters_share_the_base(backend: Backend, saved: Path, ids: Tensor) -> None:
    model = get_peft_model(backend.quantised(saved), lora_config())
    model.add_adapter("other", lora_config("loram(basis=orthogonal)"))
    model.add_adapter("plain", lora_config(True))
    alone = {}
    for seed, name in enumerate(("default", "other", "plain")):
        scramble(model, name, seed)
        model.set_adapter(name)
        alone[name] = logits(model, ids)
    assert relative(alone["default"], alone["other"]) > 1e-3
    model.set_adapter("default")
    assert torch.equal(logits(model, ids), alone["default"])


@each_kind(lambda backend: backend.mixes)
def test_mixed_batches_are_each_adapter_alone(backend: Backend, saved: Path, ids: Tensor) -> None:
    model = get_peft_model(backend.quantised(saved), lora_config())
    model.add_adapter("other", lora_config("loram(seed=3, basis=gaussian)"))
    names = ["default", "__base__", "other"]
    alone = []
    for row, name in zip(ids, names, strict=True):
        if name == "__base__":
            with model.disable_adapter():
                alone.append(logits(model, row[None]))
            continue
        scramble(model, name, len(alone))
        model.set_adapter(name)
        alone.append(logits(model, row[None]))
    mixed = logits(model, ids, adapter_names=names)
    assert relative(mixed, torch.cat(alone)) < (0.02 if backend.name == "int8" else 1e-5)


@each_kind(lambda backend: not backend.mixes)
def test_mixed_batches_that_peft_can_not_do_are_refused(
    backend: Backend, saved: Path, ids: Tensor
) -> None:
    model = get_peft_model(backend.quantised(saved), lora_config())
    refusal = TypeError if backend.name == "gptq" else LoramError  # PEFT's own for GPTQ
    with pytest.raises(refusal, match="adapter_names"):
        logits(model, ids, adapter_names=["default", "__base__", "default"])


@each_kind()
def test_the_residual_form_is_refused(backend: Backend, saved: Path) -> None:
    base = backend.quantised(saved)
    modules = [(name, type(module)) for name, module in base.named_modules()]
    with pytest.raises(LoramError, match=r"quantise it a second time: use .*'loram'"):
        get_peft_model(base, lora_config("loram_residual"))
    assert [(name, type(module)) for name, module in base.named_modules()] == modules


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
@each_kind()
def test_kbit_training(backend: Backend, saved: Path, ids: Tensor) -> None:
    base = prepare_model_for_kbit_training(
        backend.quantised(saved), gradient_checkpointing_kwargs={"use_reentrant": False}
    )
    start = logits(base, ids)
    model = get_peft_model(base, lora_config())
    assert torch.equal(logits(model, ids), start)
    losses = []
    for _ in range(2):
        train(model, ids, steps=2)
        losses.append(model(input_ids=ids, labels=ids).loss.item())
    assert losses[1] < losses[0]
