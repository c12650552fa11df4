"""Merging into quantised bases: W and the update are quantised together, and no more is lost."""

from pathlib import Path

import pytest
import torch
from peft import get_peft_model
from quantised_bases import (
    Backend,
    base_weights,
    bases,
    each_backend,
    keep_layout,
    multiplied_by,
)
from small import logits, lora_config, lora_layers, relative, scramble, trained
from torch import Tensor
from transformers import LlamaForCausalLM

from loram import LoramError
from loram.peft.layers import base_weight, true_delta_weight

pytest_plugins = ("quantised_fixtures",)

pytestmark = pytest.mark.filterwarnings("ignore:(Merge|Unmerge) lora module to:UserWarning")

MERGING = each_backend(lambda backend: backend.merges)


def adapted(backend: Backend, folder: Path, *adapters: str):
    """Updates well above the error of the quantisation."""
    model = get_peft_model(backend.quantised(folder), lora_config())
    for seed, name in enumerate(("default", *adapters)):
        if name != "default":
            model.add_adapter(name, lora_config("loram(seed=4, basis=orthogonal)"))
        scramble(model, name, seed, scale=0.2)
    return model


def deltas(model, adapter: str = "default") -> dict[str, Tensor]:
    layers = lora_layers(model, adapter)
    return {
        name: true_delta_weight(layer, adapter).detach()
        for name, layer in zip(bases(model), layers, strict=True)
    }


@MERGING
@pytest.mark.parametrize("safe", [False, True], ids=["", "safe"])
def test_merged_is_the_sum_to_the_error_of_the_quantisation(
    backend: Backend, saved: Path, safe: bool
) -> None:
    model = adapted(backend, saved)
    before, update = base_weights(model), deltas(model)
    model.merge_adapter(safe_merge=safe)
    for name, merged in base_weights(model).items():
        expected = before[name] + update[name]
        assert relative(before[name], expected) > 2 * backend.error  # the update is not lost in it
        assert relative(merged, expected) < 1.2 * backend.error


@MERGING
def test_unmerged_is_the_base_to_twice_that(backend: Backend, saved: Path) -> None:
    model = adapted(backend, saved)
    before, update = base_weights(model), deltas(model)
    model.merge_adapter()
    model.unmerge_adapter()
    for name, weight in base_weights(model).items():
        scale = float((before[name] + update[name]).norm() / before[name].norm())
        assert relative(weight, before[name]) < 1.2 * backend.error * (1 + scale)


@pytest.mark.filterwarnings("ignore:Already following adapters were merged")
@MERGING
def test_two_adapters_merge_one_after_the_other(backend: Backend, saved: Path) -> None:
    model = adapted(backend, saved, "other")
    before, first, second = base_weights(model), deltas(model), deltas(model, "other")
    for adapter in ("default", "other"):  # PEFT 0.21 fails on both at once on torchao layers
        model.merge_adapter([adapter])
    for name, merged in base_weights(model).items():
        expected = before[name] + first[name] + second[name]
        assert relative(merged, expected) < 2.4 * backend.error


@MERGING
def test_merged_computes_what_the_adapter_computed(
    backend: Backend, saved: Path, ids: Tensor
) -> None:
    model = adapted(backend, saved)
    with_adapter = logits(model, ids)
    with model.disable_adapter():
        base = logits(model, ids)
    merged = logits(model.merge_and_unload(), ids)
    assert relative(merged, with_adapter) < 0.5 * relative(base, with_adapter)


@each_backend(lambda backend: not backend.merges)
def test_what_peft_does_not_merge_is_left_alone(backend: Backend, saved: Path, ids: Tensor) -> None:
    model = adapted(backend, saved)
    before, out = base_weights(model), logits(model, ids)
    with pytest.raises(ValueError, match="Cannot merge LORA layers when the model is gptq"):
        model.merge_adapter()
    assert all(torch.equal(weight, before[name]) for name, weight in base_weights(model).items())
    assert torch.equal(logits(model, ids), out)


@each_backend(lambda backend: backend.name in ("nf4", "nf4-double"))
def test_4_bit_weights_that_an_evaluation_has_repacked(
    backend: Backend, saved: Path, ids: Tensor
) -> None:
    from bitsandbytes.functional import has_avx512bf16

    if not has_avx512bf16():
        pytest.skip("bitsandbytes repacks 4-bit weights on CPUs with AVX512-BF16 only")
    base = backend.load(saved).eval()
    names = [name for name, module in base.named_modules() if hasattr(module, "quant_state")]
    before = {name: multiplied_by(base.get_submodule(name)) for name in names}
    logits(base, ids)
    for name, weight in before.items():
        layer = base.get_submodule(name)
        assert layer.weight.quant_state.packing_format_for_cpu
        # bfloat16 scales, and no more
        assert relative(base_weight(layer), weight) < 2**-8
    model = get_peft_model(base, lora_config())
    scramble(model, "default", scale=0.2)
    logits(model, ids)
    update = deltas(model)
    model.merge_adapter()
    for name, merged in base_weights(model).items():
        W = before[name.removeprefix("base_model.model.")]
        assert relative(merged, W + update[name]) < 1.2 * backend.error


@each_backend(lambda backend: backend.name == "nf4-double")
def test_a_merged_model_can_be_saved_and_loaded(
    backend: Backend, saved: Path, ids: Tensor, tmp_path: Path
) -> None:
    model = adapted(backend, saved)
    merged = model.merge_and_unload()
    merged.save_pretrained(tmp_path)
    again = keep_layout(LlamaForCausalLM.from_pretrained(tmp_path, device_map="cpu").eval())
    assert relative(logits(again, ids), logits(merged, ids)) < 1e-5


@each_backend(lambda backend: backend.name in ("nf4", "int8"))
@pytest.mark.parametrize("safe", [False, True], ids=["", "safe"])
def test_layers_that_peft_takes_for_plain_ones_train_but_do_not_merge(
    backend: Backend, saved: Path, ids: Tensor, safe: bool
) -> None:
    base = backend.quantised(saved)
    base.is_loaded_in_4bit = base.is_loaded_in_8bit = False  # layers made by hand
    model = trained(base, lora_config(), ids)
    before, out = base_weights(model), logits(model, ids)
    with pytest.raises(LoramError, match="codes: PEFT has taken a Linear"):
        model.merge_adapter(safe_merge=safe)
    assert all(torch.equal(weight, before[name]) for name, weight in base_weights(model).items())
    assert torch.equal(logits(model, ids), out)
