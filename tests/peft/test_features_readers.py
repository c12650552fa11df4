"""PEFT's features that read the stored factors themselves: refused, or shown to be right."""

import pytest
import torch
from peft import (
    PeftModel,
    XLoraConfig,
    get_layer_status,
    get_model_status,
    get_peft_model,
    initialize_lora_eva_weights,
    replace_lora_weights_loftq,
)
from peft.tuners.lora.arrow import create_arrow_model
from peft.tuners.lora.config import ArrowConfig
from peft.tuners.lora.intruders import reduce_intruder_dimension
from small import FORMS, logits, lora_config, lora_layers, nothing_changes, scramble

from loram import LoramError


def saved(llama, path, init="loram"):
    model = get_peft_model(llama(), lora_config(init))
    scramble(model, "default")
    model.save_pretrained(path)
    return str(path)


@pytest.mark.parametrize("form", FORMS)
def test_intruder_mitigation_is_refused(llama, form):
    model = get_peft_model(llama(), lora_config(form))
    scramble(model, "default")
    with nothing_changes(model), pytest.raises(LoramError, match="loram export"):
        reduce_intruder_dimension(model)
    assert list(model.peft_config) == ["default"]


def test_intruder_mitigation_of_plain_lora_is_left_to_peft(llama):
    model = get_peft_model(llama(), lora_config(True))
    scramble(model, "default")
    reduce_intruder_dimension(model, logging_sink=None)
    assert model.active_adapters == ["intruder_reduced"]


@pytest.mark.parametrize("form", FORMS)
def test_loftq_replacement_is_refused(llama, form):
    model = get_peft_model(llama(), lora_config(form))
    with nothing_changes(model), pytest.raises(LoramError, match="loram export"):
        replace_lora_weights_loftq(model)


@pytest.mark.parametrize("form", FORMS)
def test_arrow_over_loram_experts_is_refused(llama, tmp_path, form):
    expert = saved(llama, tmp_path, form)
    with pytest.raises(LoramError, match=r"loram export|must be the only|rewritten"):
        create_arrow_model(llama(), [expert], ArrowConfig(top_k=1))


def test_loram_beside_an_arrow_router_is_refused(llama, tmp_path):
    model = create_arrow_model(llama(), [saved(llama, tmp_path, True)], ArrowConfig(top_k=1))
    with pytest.raises(LoramError, match="Arrow"):
        model.add_adapter("mine", lora_config())


def test_xlora_over_plain_experts_is_left_to_peft(llama, ids, tmp_path):
    base = llama()
    base.config.use_cache = False
    adapters = {"0": saved(llama, tmp_path, True)}
    config = XLoraConfig(task_type="CAUSAL_LM", hidden_size=32, adapters=adapters)
    assert logits(get_peft_model(base, config), ids).isfinite().all()


@pytest.mark.parametrize("form", FORMS)
def test_xlora_over_loram_experts_is_refused(llama, tmp_path, form):
    base = llama()
    base.config.use_cache = False
    config = XLoraConfig(
        task_type="CAUSAL_LM",
        hidden_size=32,
        adapters={"0": saved(llama, tmp_path, form)},
    )
    with pytest.raises(LoramError, match=r"X-LoRA"):
        get_peft_model(base, config)


def test_eva_initialisation_asks_for_its_own_string(llama):
    model = get_peft_model(llama(), lora_config())
    with nothing_changes(model), pytest.raises(ValueError, match="eva"):
        initialize_lora_eva_weights(model, [])


@pytest.mark.parametrize("form", FORMS)
def test_status_functions_report_a_regular_adapter(llama, form):
    model = get_peft_model(llama(), lora_config(form))
    plain = get_peft_model(llama(), lora_config(True))
    status = get_model_status(model)
    assert status.trainable_params == get_model_status(plain).trainable_params
    assert (status.enabled, status.active_adapters) == (True, ["default"])
    assert (status.merged_adapters, status.requires_grad) == ([], {"default": True})
    assert [s.name for s in get_layer_status(model)] == [s.name for s in get_layer_status(plain)]


def test_trls_vllm_sync_of_a_merged_model_gives_the_true_weights(llama, ids):
    """TRL sends the base's parameters while the adapter is merged, and none named `lora_`."""
    model = get_peft_model(llama(), lora_config())
    scramble(model, "default")
    expected = logits(model, ids)
    model.merge_adapter()
    sent = {
        name.removeprefix("base_model.model.").replace(
            ".base_layer", ""
        ): parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if model.prefix not in name
    }
    model.unmerge_adapter()
    served = llama()
    served.load_state_dict(sent)
    torch.testing.assert_close(logits(served, ids), expected, rtol=1e-4, atol=1e-5)


def test_a_second_adapter_from_the_same_config_is_a_copy_once_its_factors_are(llama, ids, tmp_path):
    """TRL's DPO makes its reference so: `add_adapter` with the same config, parameters copied.

    Also where β came from a file, and this base would now give another one.
    """
    path = saved(llama, tmp_path, "loram(gain=0.37)")
    base = llama(dtype=torch.bfloat16).float()
    model = PeftModel.from_pretrained(base, path, is_trainable=True)
    expected = logits(model, ids)
    model.add_adapter("ref", model.peft_config["default"])
    for layer in lora_layers(model):
        for factors in (layer.lora_A, layer.lora_B):
            factors["ref"].weight.data.copy_(factors["default"].weight)
    model.set_adapter("ref")
    assert torch.equal(logits(model, ids), expected)
