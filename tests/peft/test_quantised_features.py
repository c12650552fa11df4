"""What else is done with adapters, on quantised bases: sums, export, late starts, probes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from quantised_bases import Backend, betas_of, each_kind
from small import logits, lora_config, lora_layers, relative, scramble, trained
from torch import Tensor

import loram
from loram import LoramError
from loram.peft.export import export_plain
from loram.peft.layers import true_delta_weight
from loram.probe import MagnitudeProbe

pytest_plugins = ("quantised_fixtures",)


def summing(backend: Backend, folder: Path) -> PeftModel:
    model = get_peft_model(backend.quantised(folder), lora_config())
    model.add_adapter("other", lora_config("loram(seed=5, basis=gaussian)"))
    for seed, name in enumerate(("default", "other")):
        scramble(model, name, seed)
    return model


@each_kind(lambda backend: backend.kind != "GPTQ")
def test_weighted_sums(backend: Backend, saved: Path) -> None:
    model = summing(backend, saved)
    model.add_weighted_adapter(["default", "other"], [0.5, 2.0], "sum", "svd", svd_rank=20)
    for layer in lora_layers(model):
        expected = 0.5 * true_delta_weight(layer, "default") + 2 * true_delta_weight(layer, "other")
        assert relative(layer.get_delta_weight("sum"), expected) < 1e-4


@each_kind(lambda backend: backend.kind == "GPTQ")
def test_weighted_sums_that_peft_does_not_do_are_refused(backend: Backend, saved: Path) -> None:
    model = summing(backend, saved)
    with pytest.raises(LoramError, match=r"add_weighted_adapter on .*PEFT has no weighted sums"):
        model.add_weighted_adapter(["default", "other"], [0.5, 2.0], "sum", "svd")


@each_kind()
def test_exported_it_is_the_same_plain_lora(
    backend: Backend, saved: Path, ids: Tensor, tmp_path: Path
) -> None:
    model = trained(backend.quantised(saved), lora_config(), ids)
    model.save_pretrained(tmp_path / "loram")
    export_plain(tmp_path / "loram", tmp_path / "plain")
    plain = PeftModel.from_pretrained(backend.quantised(saved), tmp_path / "plain").eval()
    assert not betas_of(plain)
    close = 0.05 if backend.name == "int8" else 1e-5  # its activations are rounded to 8 bits
    assert relative(logits(plain, ids), logits(model, ids)) < close


@each_kind()
def test_loaded_with_low_cpu_mem_usage(
    backend: Backend, saved: Path, ids: Tensor, tmp_path: Path
) -> None:
    model = trained(backend.quantised(saved), lora_config(), ids)
    model.save_pretrained(tmp_path)
    base = backend.quantised(saved)
    again = PeftModel.from_pretrained(base, tmp_path, low_cpu_mem_usage=True).eval()
    assert torch.equal(logits(again, ids), logits(model, ids))


@each_kind()
def test_started_late_it_is_the_same(backend: Backend, saved: Path, ids: Tensor) -> None:
    late = get_peft_model(backend.quantised(saved), lora_config(True))
    loram.apply_(late)
    model = get_peft_model(backend.quantised(saved), lora_config())
    assert betas_of(late) == betas_of(model)
    for each in (late, model):
        scramble(each, "default")
    assert torch.equal(logits(late, ids), logits(model, ids))


@each_kind()
def test_magnitudes_are_read(backend: Backend, saved: Path) -> None:
    model = get_peft_model(backend.quantised(saved), lora_config())
    scramble(model, "default")
    read = MagnitudeProbe(model).read()
    updates = [true_delta_weight(layer, "default").detach() for layer in lora_layers(model)]
    assert len(read) == len(updates)
    assert sorted(float(nu) for _, _, nu in read.values()) == pytest.approx(
        sorted(float(update.square().mean()) for update in updates), rel=1e-4
    )


def test_loram_loads_no_backend_that_peft_does_not() -> None:
    code = (
        "import sys, peft\n"
        "def loaded(): return {name.partition('.')[0] for name in sys.modules}\n"
        "before = loaded()\n"
        "import loram\n"
        "print(*(loaded() - before))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["loram"]
