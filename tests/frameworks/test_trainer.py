"""Transformers' Trainer: an interrupted run is the uninterrupted one, and the best is reloaded."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor
from transformers import Trainer, TrainingArguments

import loram  # noqa: F401 - registers the strings
from conftest import VOCABULARY, make_llama

FORMS = ["loram", "loram_residual"]


def config(form: str) -> LoraConfig:
    return LoraConfig(
        r=4,
        lora_alpha=4,
        lora_dropout=0.1,
        target_modules=["q_proj", "o_proj", "up_proj", "down_proj"],
        init_lora_weights=form,
    )


def rows(seed: int, count: int = 24) -> list[dict[str, Tensor]]:
    ids = torch.randint(0, VOCABULARY, (count, 8), generator=torch.Generator().manual_seed(seed))
    return [{"input_ids": row, "labels": row} for row in ids]


def trainer(out: Path, form: str, **settings: Any) -> Trainer:
    arguments = {
        "max_steps": 6,
        "save_steps": 3,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "cosine",
        "logging_steps": 1,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return Trainer(
        model=get_peft_model(make_llama(), config(form)),
        args=TrainingArguments(output_dir=str(out), **(arguments | settings)),
        train_dataset=rows(1),
        eval_dataset=rows(2, 8),
    )


def losses(done: Trainer) -> list[float]:
    return [entry["loss"] for entry in done.state.log_history if "loss" in entry]


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), name


@pytest.mark.parametrize("form", FORMS)
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, form):
    whole = trainer(tmp_path / "whole", form)
    whole.train()
    assert losses(whole)[0] != losses(whole)[-1]

    resumed = trainer(tmp_path / "resumed", form)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert losses(resumed) == losses(whole)
    assert_equal(resumed.model.state_dict(), whole.model.state_dict())

    resumed.save_model(str(tmp_path / "saved"))
    loaded = PeftModel.from_pretrained(make_llama(), str(tmp_path / "saved"))
    assert_equal(get_peft_model_state_dict(loaded), get_peft_model_state_dict(whole.model))


@pytest.mark.parametrize("form", FORMS)
def test_the_best_checkpoint_is_loaded_at_the_end(tmp_path, form):
    """Best is the highest loss here, so that it is not the last."""
    done = trainer(
        tmp_path,
        form,
        save_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=True,
    )
    done.train()
    scores = {e["step"]: e["eval_loss"] for e in done.state.log_history if "eval_loss" in e}
    best = max(scores, key=scores.get)
    assert best != 6, scores
    assert_equal(
        get_peft_model_state_dict(done.model),
        load_file(tmp_path / f"checkpoint-{best}" / "adapter_model.safetensors"),
    )
    assert done.evaluate()["eval_loss"] == scores[best]
