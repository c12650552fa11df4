"""Every row of the methods table by `loram.train.run`: trained, judged, saved, read, resumed."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tiny import Killed, kill_at, rows, tiny_settings
from transformers import AutoModelForCausalLM, Trainer

from loram.methods import METHODS
from loram.tasks import load
from loram.train import RunError, run
from loram.train.encode import encode
from loram.train.evaluate import held_out_loss
from loram.train.model import load_pretrained

QUICK: dict[str, Any] = {
    **{"steps": 3, "answers": 0, "save_every": 2, "target_modules": "q_proj,up_proj"},
    "calibrate_on": 2,  # one batch: PEFT's EVA reads two a hundred times
}


@pytest.fixture(scope="module")
def done(tiny_model, sums, tmp_path_factory):
    """Folder of a run of three steps, by its method; each is made once."""
    made: dict[str, Path] = {}

    def get(method: str) -> Path:
        if method not in made:
            made[method] = tmp_path_factory.mktemp("done") / "out"
            run(tiny_settings(tiny_model, sums, method=method, **QUICK), made[method])
        return made[method]

    return get


def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "results.json").read_text())


@pytest.mark.parametrize("name", METHODS)
def test_every_row_runs_and_what_it_saves_has_the_loss_that_was_reported(
    done, tiny_model, sums, name
):
    out = done(name)
    found, row = results(out), METHODS[name]
    assert math.isfinite(found["metrics"]["test"]["loss"])
    assert [each["step"] for each in rows(out / "losses.jsonl")] == [1, 2, 3]
    saved = {"full": "model"}.get(name, "adapter")
    assert found["saved"] == saved
    files = list((out / saved).glob("*.safetensors"))
    assert found["saved_bytes"] == sum(file.stat().st_size for file in files) > 0
    assert (out / "magnitudes.jsonl").exists() == (name != "full")
    assert not (out / "start").exists()
    if row.data is None:
        assert found["calibration"] is None
    else:
        used = found["calibration"]
        assert set(used) == {"examples", "tokens", "seconds"}
        assert used["tokens"] > used["examples"]
        assert used["examples"] == 2 or (name == "eva" and used["examples"] % 2 == 0)
    base, tokenizer = load_pretrained(str(tiny_model), torch.float32)
    if name == "full":
        model = AutoModelForCausalLM.from_pretrained(out / "model")
    else:
        model = PeftModel.from_pretrained(base, out / "adapter")
    data = load(str(sums), train_size=None, held_out_size=5, seed=0)
    held_out = encode(tokenizer, data.held_out, "auto", 512)
    loss = held_out_loss(model, held_out, tokenizer.pad_token_id, batch_size=2)
    assert loss == pytest.approx(found["metrics"]["test"]["loss"], rel=1e-5)


def test_rows_start_alike_and_end_apart(done):
    found = [results(done(name)) for name in METHODS]
    assert len({each["metrics"]["before"]["loss"] for each in found}) == 1
    assert len({each["metrics"]["test"]["loss"] for each in found}) == len(METHODS)


def test_full_fine_tuning_trains_every_weight(done, tiny_model):
    before = load_file(tiny_model / "model.safetensors")
    after = load_file(done("full") / "model" / "model.safetensors")
    assert before.keys() == after.keys()
    assert not any(torch.equal(before[key], after[key]) for key in before)
    assert results(done("full"))["trainable"] == sum(t.numel() for t in before.values())


def test_full_fine_tuning_of_a_bfloat16_base_keeps_float32_weights(tiny_model, sums, tmp_path):
    """A step of 1e-5 would round away in bfloat16."""
    settings = tiny_settings(
        *(tiny_model, sums), method="full", **(QUICK | {"steps": 2}), dtype="bfloat16", lr=1e-5
    )
    run(settings, tmp_path)
    before = load_file(tiny_model / "model.safetensors")
    after = load_file(tmp_path / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    moved = [(after[k] - before[k].bfloat16().float()).abs() for k in before]
    assert 0 < max(float(each.max()) for each in moved) < 1e-4


def test_a_rewriting_method_is_saved_as_plain_lora_of_twice_the_rank(done):
    for name in ("pissa", "milora", "lora-ga-rslora", "corda-ipm"):
        config = json.loads((done(name) / "adapter" / "adapter_config.json").read_text())
        assert (config["r"], config["init_lora_weights"]) == (8, True), name
        assert config["corda_config"] is config["lora_ga_config"] is None
    config = json.loads((done("loram-residual") / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["init_lora_weights"]) == (4, "loram_residual")


# ---- killed and resumed --------------------------------------------------------------------------

_TIMED = ("init_seconds", "train_seconds", "tokens_per_second", "step_seconds", "peak_memory_bytes")


def numbers(out: Path) -> dict[str, Any]:
    """Results without what a clock or the memory says."""
    found = {k: v for k, v in results(out).items() if k not in _TIMED}
    if found["calibration"] is not None:
        found["calibration"].pop("seconds")
    return found


KILLS = [
    *(("training", name) for name in ("full", "lora+", "lora-ga", "corda-ipm", "eva", "milora")),
    *(("held-out loss after", name) for name in ("full", "milora")),
]


@pytest.mark.parametrize(("stage", "name"), KILLS)
def test_a_killed_run_goes_on_and_ends_the_same(done, tiny_model, sums, tmp_path, name, stage):
    settings = tiny_settings(tiny_model, sums, method=name, **QUICK)
    with pytest.raises(Killed):
        run(settings, tmp_path / "out", stage=kill_at(stage, 3 if stage == "training" else 0))
    run(settings, tmp_path / "out")
    whole, out = done(name), tmp_path / "out"
    assert numbers(out) == numbers(whole)
    assert (out / "losses.jsonl").read_text() == (whole / "losses.jsonl").read_text()
    saved = results(out)["saved"]
    for file in (whole / saved).glob("*.safetensors"):
        mine, theirs = load_file(out / saved / file.name), load_file(file)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    assert {each.name for each in out.iterdir()} == {each.name for each in whole.iterdir()}


def test_another_start_than_the_runs_own_is_refused(tiny_model, sums, tmp_path):
    """As after a change of library or machine: what was taken out of the base would be another."""
    settings = tiny_settings(tiny_model, sums, method="pissa", **QUICK)
    with pytest.raises(Killed):
        run(settings, tmp_path, stage=kill_at("training", 2))
    file = tmp_path / "start" / "adapter_model.safetensors"
    factors = load_file(file)
    key = next(iter(factors))
    factors[key][0, 0] += 1e-6
    save_file(factors, file, metadata={"format": "pt"})
    with pytest.raises(RunError, match=r"other starting factors.*Begin again in a new folder"):
        run(settings, tmp_path)


# ---- LoRA+ ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ratio", "expected"), [(None, 4.0), (8.0, 8.0), (1.0, 1.0)])
def test_the_ratio_of_rates_reaches_the_trainer(
    tiny_model, sums, tmp_path, monkeypatch, ratio, expected
):
    made: list[Trainer] = []
    start = Trainer.train

    def spy(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        made.append(self)
        return start(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "train", spy)
    quick = QUICK | {"steps": 1, "warmup_steps": 0, "lr": 1e-3}
    run(tiny_settings(tiny_model, sums, method="lora+", lr_ratio=ratio, **quick), tmp_path)
    rates: dict[str, set[float]] = {"lora_A": set(), "lora_B": set()}
    names = {id(p): n for n, p in made[0].model.named_parameters()}
    for group in made[0].optimizer.param_groups:
        for parameter in group["params"]:
            side = "lora_A" if "lora_A" in names[id(parameter)] else "lora_B"
            rates[side].add(group["initial_lr"])
    (rate_A,), (rate_B,) = rates["lora_A"], rates["lora_B"]
    assert rate_A == pytest.approx(1e-3)
    assert rate_B == pytest.approx(expected * 1e-3)


def test_any_method_may_have_two_rates(done, tiny_model, sums, tmp_path):
    run(tiny_settings(tiny_model, sums, method="lora", lr_ratio=4.0, **QUICK), tmp_path)
    assert (
        results(tmp_path)["metrics"]["test"]["loss"]
        == results(done("lora+"))["metrics"]["test"]["loss"]
    )


def test_a_string_that_tracks_takes_its_calibration_from_the_training_data(
    tiny_model, sums, tmp_path
):
    method = "loram(gain=track:lora_one, basis=orthogonal)"
    found = run(tiny_settings(tiny_model, sums, method=method, **QUICK), tmp_path)
    assert found["calibration"]["examples"] == 2
