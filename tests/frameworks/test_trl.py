"""TRL's trainers with `peft_config`: SFT trains and saves LoRAM; DPO's reference is the base."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from trl.trainer.utils import add_fused_lm_head, use_adapter

import loram
from loram.peft.record import BasisRecord

# TRL 1.16 sets what transformers 5.23 renames.
pytestmark = pytest.mark.filterwarnings("ignore:`gradient_checkpointing:FutureWarning")

FORMS = ["loram", "loram_residual"]
SETTINGS = {
    "max_steps": 3,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
    "bf16": False,
}


def config(form: str) -> LoraConfig:
    return LoraConfig(r=4, lora_alpha=4, target_modules="all-linear", init_lora_weights=form)


def base_model(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), name


# ---- SFT -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "checkpointing"), [("loram", True), ("loram", False), ("loram_residual", True)]
)
def test_sft_trains_and_saves_loram(tiny_model, tmp_path, form, checkpointing):
    rows = [{"prompt": f"{i} plus {i}?", "completion": f" {2 * i}"} for i in range(12)]
    trainer = SFTTrainer(
        model=base_model(tiny_model),
        args=SFTConfig(str(tmp_path / "run"), gradient_checkpointing=checkpointing, **SETTINGS),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(tiny_model),
        peft_config=config(form),
    )
    trainer.train()
    curve = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert curve[-1] < curve[0]
    trainer.save_model(str(tmp_path / "adapter"))
    loaded = PeftModel.from_pretrained(base_model(tiny_model), str(tmp_path / "adapter"))
    assert loaded.peft_config["default"].init_lora_weights == form
    state = get_peft_model_state_dict(trainer.model)
    assert any("lora_basis" in name for name in state)
    assert_same(get_peft_model_state_dict(loaded), state)


# ---- DPO -----------------------------------------------------------------------------------------


def dpo(
    folder: Path, out: Path, model: Any, peft_config: LoraConfig | None, **settings: Any
) -> DPOTrainer:
    rows = [
        {"prompt": f"{i} plus {i}?", "chosen": f" {2 * i}", "rejected": f" {3 * i + 1}"}
        for i in range(8)
    ]
    return DPOTrainer(
        model=model,
        args=DPOConfig(str(out), **(SETTINGS | settings)),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(folder),
        peft_config=peft_config,
    )


def in_order(trainer: DPOTrainer) -> dict[str, Tensor]:
    """All preference pairs as one batch."""
    return trainer.data_collator(list(trainer.train_dataset))


def of_reference(trainer: DPOTrainer) -> tuple[Tensor, Tensor]:
    """(chosen, rejected) log-probabilities of the reference, as TRL precomputes them."""
    trainer.model.eval()
    return trainer.compute_ref_log_probs(trainer.model, in_order(trainer))


def of_base(trainer: DPOTrainer, folder: Path) -> tuple[Tensor, Tensor]:
    """The same of the bare base model, by TRL's own arithmetic."""
    bare = base_model(folder).eval()
    add_fused_lm_head(bare)
    return trainer.compute_ref_log_probs(bare, in_order(trainer))


def apart(got: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> float:
    """Largest relative difference; 0 if and only if equal bit for bit."""
    return max(float(((a - b) / b).abs().max()) for a, b in zip(got, expected, strict=True))


# Bit for bit in the deviation form; the residual form adds sB⁰A⁰x back to what W′ gives.
TOLERANCE = {"loram": 0.0, "loram_residual": 1e-5}


@pytest.mark.parametrize("form", FORMS)
def test_the_implicit_reference_of_dpo_is_the_base(tiny_model, tmp_path, form, record_property):
    """Before training, in every step's loss, and after."""
    trainer = dpo(tiny_model, tmp_path, base_model(tiny_model), config(form))
    assert trainer.ref_model is None
    assert "ref" not in trainer.model.peft_config
    expected = of_base(trainer, tiny_model)
    assert apart(of_reference(trainer), expected) <= TOLERANCE[form]

    bare = base_model(tiny_model).eval()
    add_fused_lm_head(bare)
    worst = []

    def compare(model: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if torch.is_grad_enabled():  # the policy's turn
            return
        with torch.no_grad():
            difference = output.log_probs - bare(**kwargs).log_probs
        worst.append(float(difference.abs().max()))

    handle = trainer.model.register_forward_hook(compare, with_kwargs=True)
    trainer.train()
    handle.remove()
    assert len(worst) == 3
    assert max(worst) <= TOLERANCE[form]

    after = apart(of_reference(trainer), expected)
    record_property("relative difference after training", after)
    assert after <= TOLERANCE[form]
    with torch.no_grad():
        batch = in_order(trainer)["input_ids"]
        assert not torch.equal(trainer.model(batch).logits, bare(batch).logits)  # it has learnt


@pytest.mark.parametrize("form", FORMS)
def test_precomputed_reference_log_probabilities_are_the_bases(tiny_model, tmp_path, form):
    trainer = dpo(
        tiny_model,
        tmp_path,
        base_model(tiny_model),
        config(form),
        precompute_ref_log_probs=True,
        precompute_ref_batch_size=8,
    )
    columns = (trainer.train_dataset[f"ref_{name}_logps"] for name in ("chosen", "rejected"))
    got = tuple(torch.tensor(list(column)) for column in columns)
    assert apart(got, of_base(trainer, tiny_model)) <= TOLERANCE[form]
    trainer.train()


def test_dpo_starts_from_a_log_ratio_of_zero(tiny_model, tmp_path):
    """So the first loss is log 2 and the first reward 0, as for a policy that is its reference."""
    trainer = dpo(tiny_model, tmp_path, base_model(tiny_model), config("loram"), max_steps=1)
    trainer.train()
    first = trainer.state.log_history[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["rewards/chosen"] == first["rewards/rejected"] == 0


def test_pissas_reference_is_not_the_base(tiny_model, tmp_path, record_property):
    """Why this matters: with its adapter disabled PiSSA leaves W − sB⁰A⁰, another model."""
    trainer = dpo(tiny_model, tmp_path, base_model(tiny_model), config("pissa"))
    off = apart(of_reference(trainer), of_base(trainer, tiny_model))
    record_property("relative difference of PiSSA's reference", off)
    assert off > 1e-2


def test_an_adapter_that_is_trained_on_has_itself_as_reference(tiny_model, tmp_path):
    """A PeftModel, and no `peft_config`: TRL adds a second adapter `ref` and copies the factors.

    β is not what this base would give: the adapter comes from training on another precision.
    """
    model = get_peft_model(base_model(tiny_model), config("loram"))
    for module in model.modules():
        if isinstance(module, BasisRecord):
            module.weight.copy_(BasisRecord(1.5 * module.beta, "dst", 0, 4).weight)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    begin = copy.deepcopy(model).eval()
    trainer = dpo(tiny_model, tmp_path, model, None)
    assert "ref" in trainer.model.peft_config
    add_fused_lm_head(begin.get_base_model())
    inputs = in_order(trainer)
    labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
    trainer.train()
    with torch.no_grad(), use_adapter(trainer.model.eval(), "ref"):
        kept = trainer.model(inputs["input_ids"], labels=labels, fused_lm_head=True).log_probs
        first = begin(inputs["input_ids"], labels=labels, fused_lm_head=True).log_probs
    assert torch.equal(kept, first)


def test_a_residual_adapter_that_is_trained_on_is_refused(tiny_model, tmp_path):
    """It can't share its base with the copy that TRL makes of it."""
    model = get_peft_model(base_model(tiny_model), config("loram_residual"))
    with pytest.raises(loram.LoramError, match="init_lora_weights='loram'"):
        dpo(tiny_model, tmp_path, model, None)
