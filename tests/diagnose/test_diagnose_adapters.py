"""Saved adapters: every figure against the dense update."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

import loram  # noqa: F401 - registers
from loram.diagnose import DiagnoseError, diagnose
from loram.diagnose.adapter import diagnose_adapter
from loram.magnitude import nu
from loram.probe.lowrank import effective_rank, stable_rank


@pytest.fixture
def adapter(llama, tmp_path):
    def make(init, *, moved=1e-2, **config):
        base = llama(dtype=torch.float64)
        before = {k: v.clone() for k, v in base.state_dict().items()}
        settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]}
        model = get_peft_model(
            base,
            LoraConfig(**(settings | config), init_lora_weights=init),
            autocast_adapter_dtype=False,
        )
        with torch.no_grad():
            for name, p in model.named_parameters():
                if "lora_" in name:
                    p += moved * torch.randn_like(p)
        model.save_pretrained(tmp_path / "adapter")
        merged = model.merge_and_unload().state_dict()
        return tmp_path / "adapter", {
            k.removesuffix(".weight"): merged[k] - before[k] for k in merged
        }

    return make


@pytest.mark.parametrize("init", [True, "gaussian", "loram", "loram_residual", "loram(basis=etf)"])
@pytest.mark.parametrize("rslora", [False, True])
def test_the_figures_are_those_of_the_dense_update(adapter, init, rslora):
    folder, updates = adapter(init, use_rslora=rslora)
    layers = diagnose_adapter(folder)
    assert len(layers) == 4
    for layer in layers:
        dense = updates[layer.name]
        sigma = torch.linalg.svdvals(dense)[: 8 if layer.beta else 4]
        assert layer.shape == tuple(dense.shape)
        assert layer.scaling == pytest.approx(4.0 if rslora else 2.0)
        assert layer.nu_update == pytest.approx(nu(dense), rel=1e-5)
        assert layer.stable_rank == pytest.approx(float(stable_rank(sigma)), rel=1e-5)
        assert layer.effective_rank == pytest.approx(float(effective_rank(sigma)), rel=1e-4)
        assert (layer.beta is not None) == str(init).startswith("loram")
        if layer.beta:
            assert layer.nu_A == pytest.approx(layer.beta**2 / layer.shape[1], rel=0.5)


def spoil(folder, change):
    file = folder / "adapter_model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return " ".join(diagnose(str(folder)).advice)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {k: v * 0 for k, v in t.items()}, "the adapter is dead"),
        (lambda t: {k: v * ("lora_A" in k) for k, v in t.items()}, "as it started"),
        (lambda t: {k: v * float("nan") for k, v in t.items()}, "NaN or Inf"),
    ],
)
def test_dead_untrained_and_broken_adapters_are_told_apart(adapter, change, message):
    folder, _ = adapter(True)
    assert message in spoil(folder, change)


def test_a_large_scaling_and_an_unused_rank_are_said(adapter):
    folder, _ = adapter(True, lora_alpha=64, r=4)
    assert "s = 16 is far from 1" in " ".join(diagnose(str(folder)).advice)

    def first_only(tensors):
        for key, value in tensors.items():
            if "lora_A" in key:
                value[1:] = 0
        return tensors

    assert "a rank of 1 would do" in spoil(folder, first_only)


def test_a_pickled_or_empty_adapter_is_refused(adapter):
    folder, _ = adapter(True)
    weights = folder / "adapter_model.safetensors"
    save_file({"x": torch.ones(1)}, weights)
    with pytest.raises(DiagnoseError, match="no LoRA layer"):
        diagnose(str(folder))
    weights.rename(folder / "adapter_model.bin")
    with pytest.raises(DiagnoseError, match="pickles are not read"):
        diagnose(str(folder))
