"""One run in one folder: what it leaves, what a kill leaves, and what it refuses."""

import json
import math
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from tiny import Killed, assert_same_run, kill_at, no_stage, rows, tiny_settings

from loram.probe import MagnitudeProbe
from loram.tasks import load
from loram.train import RunError, TrainSettings, run
from loram.train.encode import encode
from loram.train.evaluate import held_out_loss
from loram.train.model import load_pretrained

METHODS_TRIED = ["lora", "pissa", "loram", "loram_residual"]
LAYERS = 14  # linear layers of the tiny model, its head aside


@pytest.fixture(scope="module")
def whole(tiny_model, sums, tmp_path_factory):
    """Folder of a run that nothing stopped, by its method; each is made once."""
    made: dict[str, Path] = {}

    def get(method: str) -> Path:
        if method not in made:
            made[method] = tmp_path_factory.mktemp("whole") / method
            run(tiny_settings(tiny_model, sums, method=method), made[method])
        return made[method]

    return get


# ---- what a run leaves ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS_TRIED)
def test_folder_of_a_run_holds_its_settings_logs_answers_results_and_adapter(
    whole, tiny_model, sums, method
):
    out = whole(method)
    settings = tiny_settings(tiny_model, sums, method=method)
    assert {each.name for each in out.iterdir()} == {
        *("settings.json", "before.json", "losses.jsonl", "magnitudes.jsonl", "answers.jsonl"),
        *("results.json", "adapter"),
    }
    results = json.loads((out / "results.json").read_text())
    assert set(results) == {
        *("settings", "dtype", "task", "metric", "better", "metrics", "update", "init_seconds"),
        *("train_seconds", "tokens_per_second", "step_seconds", "saved", "saved_bytes"),
        *("calibration", "trainable"),
        *("peak_memory_bytes", "processes", "versions"),
    }
    assert results["settings"] == settings.model_dump()
    assert json.loads((out / "settings.json").read_text()) == settings.model_dump()
    assert results["dtype"] == "float32"
    assert 0 < results["metrics"]["test"]["loss"] < results["metrics"]["before"]["loss"]
    assert results["step_seconds"] > 0
    assert results["tokens_per_second"] > 0
    file = out / "adapter" / "adapter_model.safetensors"
    assert results["saved_bytes"] == file.stat().st_size
    assert [row["step"] for row in rows(out / "losses.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert all(math.isfinite(row["loss"]) for row in rows(out / "losses.jsonl"))
    magnitudes = rows(out / "magnitudes.jsonl")
    assert [row["step"] for row in magnitudes] == [0, 1, 2, 3, 4, 5, 6]
    assert all(len(row["layers"]) == LAYERS for row in magnitudes)
    first, second, last = (
        [layer[2] for layer in magnitudes[i]["layers"].values()] for i in (0, 1, -1)
    )
    assert first == second == [0.0] * LAYERS  # warm-up begins at a rate of 0
    assert min(last) > 0
    answers = rows(out / "answers.jsonl")
    held_out = load(str(sums), train_size=None, held_out_size=5, seed=0).held_out
    assert [(row["question"], row["reference"]) for row in answers] == held_out[:2]
    assert set(answers[0]) == {
        *("question", "reference", "written", "correct", "after", "correct_after")
    }


@pytest.mark.parametrize("method", METHODS_TRIED)
def test_saved_adapter_has_the_loss_that_was_reported(whole, tiny_model, sums, method):
    out = whole(method)
    model, tokenizer = load_pretrained(str(tiny_model), torch.float32)
    model = PeftModel.from_pretrained(model, out / "adapter")
    data = load(str(sums), train_size=None, held_out_size=5, seed=0)
    held_out = encode(tokenizer, data.held_out, "auto", 512)
    loss = held_out_loss(model, held_out, tokenizer.pad_token_id)
    reported = json.loads((out / "results.json").read_text())["metrics"]["test"]["loss"]
    assert loss == pytest.approx(reported, rel=1e-6)


def test_methods_are_judged_alike_before_and_differ_after(whole):
    results = [json.loads((whole(method) / "results.json").read_text()) for method in METHODS_TRIED]
    assert len({each["metrics"]["before"]["loss"] for each in results}) == 1
    assert len({each["metrics"]["test"]["loss"] for each in results}) == len(METHODS_TRIED)


def test_the_two_forms_of_loram_are_one_method(tiny_model, sums, tmp_path):
    """Without dropout, which the residual form's rewritten base does not see."""
    losses = {}
    for method in ("loram", "loram_residual"):
        run(
            tiny_settings(tiny_model, sums, method=method, dropout=0.0, answers=0),
            tmp_path / method,
        )
        losses[method] = [row["loss"] for row in rows(tmp_path / method / "losses.jsonl")]
    assert losses["loram"] == pytest.approx(losses["loram_residual"], rel=1e-3)


def test_magnitudes_of_the_last_step_are_those_of_the_saved_adapter(whole, tiny_model):
    out = whole("loram")
    model, _ = load_pretrained(str(tiny_model), torch.float32)
    read = MagnitudeProbe(PeftModel.from_pretrained(model, out / "adapter")).read()
    logged = rows(out / "magnitudes.jsonl")[-1]["layers"]
    assert read.keys() == logged.keys()
    for name, values in logged.items():
        assert list(read[name]) == pytest.approx(values[:3], rel=1e-6), name


def test_without_answers_there_is_no_exact_match(tiny_model, sums, tmp_path):
    settings = tiny_settings(tiny_model, sums, answers=0, steps=1, prompt="plain", dtype="bfloat16")
    results = run(settings, tmp_path / "out")
    assert {*results["metrics"]["before"]} == {*results["metrics"]["test"]} == {"loss"}
    assert rows(tmp_path / "out" / "answers.jsonl") == []
    assert results["dtype"] == "bfloat16"


def test_settings_reach_the_adapter(tiny_model, sums, tmp_path):
    settings = tiny_settings(
        *(tiny_model, sums),
        steps=1,
        rank=3,
        alpha=4.5,
        rslora=True,
        target_modules="q_proj, up_proj",
        method="loram(gain=0.5)",
    )
    results = run(settings, tmp_path)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (3, 4.5, True)
    assert config["lora_dropout"] == 0.1
    assert sorted(config["target_modules"]) == ["q_proj", "up_proj"]
    assert config["init_lora_weights"] == "loram(gain=0.5)"
    assert results["trainable"] == 2 * 3 * ((32 + 32) + (32 + 48))


def test_accumulated_batches_are_one_large_batch(tiny_model, sums, tmp_path):
    """Also where the batches have different numbers of answer tokens."""
    common = {"steps": 3, "dropout": 0.0, "answers": 0, "warmup_steps": 0}
    run(tiny_settings(tiny_model, sums, **common, batch_size=4), tmp_path / "large")
    run(tiny_settings(tiny_model, sums, **common, accumulate=2), tmp_path / "parts")
    large, parts = (rows(tmp_path / name / "losses.jsonl") for name in ("large", "parts"))
    assert [row["loss"] for row in parts] == pytest.approx([row["loss"] for row in large], rel=1e-4)


# ---- runs that are done, or were killed ----------------------------------------------------------


def test_a_run_that_is_done_is_read(whole, tiny_model, sums):
    settings = tiny_settings(tiny_model, sums, method="loram")
    before = {f: f.stat().st_mtime_ns for f in whole("loram").rglob("*")}
    results = run(settings, whole("loram"), stage=no_stage)
    assert results == json.loads((whole("loram") / "results.json").read_text())
    assert {f: f.stat().st_mtime_ns for f in whole("loram").rglob("*")} == before


KILLS = [
    ("loram", [kill_at("reading")]),
    ("loram", [kill_at("held-out loss before")]),
    ("loram", [kill_at("starting")]),
    ("loram", [kill_at("training", 1)]),
    ("loram", [kill_at("training", 3), kill_at("training", 3), kill_at("training", 5)]),
    ("loram", [kill_at("held-out loss after")]),
    ("loram", [kill_at("answers after")]),
    *((method, [kill_at("training", 5)]) for method in METHODS_TRIED),
]


@pytest.mark.parametrize(("method", "kills"), KILLS)
def test_a_killed_run_goes_on_and_ends_the_same(whole, tiny_model, sums, tmp_path, method, kills):
    settings = tiny_settings(tiny_model, sums, method=method)
    for kill in kills:
        with pytest.raises(Killed):
            run(settings, tmp_path / "out", stage=kill)
        assert not (tmp_path / "out" / "results.json").exists()
    run(settings, tmp_path / "out")
    assert_same_run(tmp_path / "out", whole(method))


def test_a_run_that_is_killed_between_checkpoints_repeats_few_steps(tiny_model, sums, tmp_path):
    settings = tiny_settings(tiny_model, sums, answers=0)
    with pytest.raises(Killed):
        run(settings, tmp_path, stage=kill_at("training", 5))
    ticks: list[int] = []

    def stage(what, total):
        return ticks.append if what == "training" else lambda n: None

    run(settings, tmp_path, stage=stage)
    assert ticks == [4, 1, 1]


def test_sigkill_loses_no_bit(whole, tiny_model, sums, tmp_path):
    settings = tiny_settings(tiny_model, sums, method="loram")
    script = f"""
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from loram.train import TrainSettings, run
def stage(what, total):
    done = []
    def tick(n):
        done.append(n)
        if what == "training" and sum(done) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
    return tick
settings = TrainSettings.model_validate_json({settings.model_dump_json()!r})
run(settings, Path(sys.argv[1]), stage=stage)
"""
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", script, out], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    run(settings, out)
    assert_same_run(out, whole("loram"))


def checkpoints(out: Path) -> list[str]:
    return sorted(each.name for each in (out / "checkpoints").iterdir())


@pytest.mark.parametrize("broken", [["checkpoint-4"], ["checkpoint-2", "checkpoint-4"]])
def test_half_written_checkpoints_are_dropped(whole, tiny_model, sums, tmp_path, broken, caplog):
    settings = tiny_settings(tiny_model, sums, method="loram")
    with pytest.raises(Killed):
        run(settings, tmp_path / "out", stage=kill_at("training", 5))
    assert checkpoints(tmp_path / "out") == ["checkpoint-2", "checkpoint-4"]
    for name in broken:
        folder = tmp_path / "out" / "checkpoints" / name
        (folder / "whole").unlink()
        (folder / "optimizer.pt").write_bytes(b"")
    run(settings, tmp_path / "out")
    assert all(name in caplog.text for name in broken)
    assert_same_run(tmp_path / "out", whole("loram"))


def test_a_log_line_that_a_kill_cut_short_is_written_again(whole, tiny_model, sums, tmp_path):
    settings = tiny_settings(tiny_model, sums, method="loram")
    with pytest.raises(Killed):
        run(settings, tmp_path / "out", stage=kill_at("training", 5))
    log = tmp_path / "out" / "magnitudes.jsonl"
    log.write_text(log.read_text()[:-40])
    run(settings, tmp_path / "out")
    assert_same_run(tmp_path / "out", whole("loram"))


def test_a_folder_where_a_kill_came_before_the_settings_were_written_can_be_used(
    tiny_model, sums, tmp_path, monkeypatch
):
    """`os.replace` is the last thing that `settings.json` needs."""

    def die(*args):
        raise Killed

    settings = tiny_settings(tiny_model, sums, answers=0, steps=1)
    with monkeypatch.context() as patched:
        patched.setattr("os.replace", die)
        with pytest.raises(Killed):
            run(settings, tmp_path / "out")
    run(settings, tmp_path / "out")


# ---- refusals ------------------------------------------------------------------------------------


def test_other_settings_in_the_same_folder_are_refused_by_name(whole, tiny_model, sums):
    settings = tiny_settings(tiny_model, sums, method="loram", lr=3e-4, seed=1)
    with pytest.raises(RunError, match=r"other settings \(lr, seed\)"):
        run(settings, whole("loram"), stage=no_stage)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"x"'])
def test_damaged_settings_are_refused(tiny_model, sums, tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(RunError, match=r"settings\.json"):
        run(tiny_settings(tiny_model, sums), tmp_path, stage=no_stage)


@pytest.mark.parametrize("name", ["before.json", "results.json"])
def test_damaged_results_are_refused_by_name(whole, tiny_model, sums, tmp_path, name):
    out = shutil.copytree(whole("loram"), tmp_path / "out")
    (out / "results.json").unlink()
    (out / name).write_text('{"loss": ')
    with pytest.raises(RunError, match=name):
        run(tiny_settings(tiny_model, sums, method="loram"), out)


@pytest.mark.parametrize("kind", ["file", "folder of something else", "below a file"])
def test_a_place_that_is_not_a_runs_is_refused(tiny_model, sums, tmp_path, kind):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("precious")
    out = tmp_path / {"file": "taken/thesis.txt", "below a file": "taken/thesis.txt/out"}.get(
        kind, "taken"
    )
    with pytest.raises(RunError, match="name another folder"):
        run(tiny_settings(tiny_model, sums), out, stage=no_stage)
    assert (tmp_path / "taken" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(("lr", "steps"), [(1e30, 6), (1e30, 2), (1e30, 1)])
def test_divergence_is_an_error_that_names_the_step(tiny_model, sums, tmp_path, lr, steps):
    """Also when only what the last step wrote is broken, and again when the run is repeated."""
    settings = tiny_settings(
        tiny_model, sums, lr=lr, steps=steps, warmup_steps=0, schedule="constant", answers=0
    )
    for _ in range(2):
        with pytest.raises(RunError, match=rf"diverged.* step [1-{steps}], .*lower learning rate"):
            run(settings, tmp_path / "out")
        assert not (tmp_path / "out" / "results.json").exists()


def test_divergence_stops_at_once(tiny_model, sums, tmp_path):
    ticks: list[int] = []
    settings = tiny_settings(tiny_model, sums, lr=1e30, warmup_steps=0, steps=50, answers=0)
    with pytest.raises(RunError, match="diverged"):
        run(
            settings,
            tmp_path,
            stage=lambda what, n: ticks.append if what == "training" else lambda n: None,
        )
    assert sum(ticks) < 5


# ---- baseline ------------------------------------------------------------------------------------


def test_figures_before_are_taken_from_the_baseline(whole, tiny_model, sums, tmp_path):
    stages: list[str] = []

    def stage(what, total):
        stages.append(what)
        return lambda n: None

    settings = tiny_settings(tiny_model, sums, method="loram")
    run(settings, tmp_path / "out", baseline=whole("lora"), stage=stage)
    assert not any("before" in what for what in stages)
    assert_same_run(tmp_path / "out", whole("loram"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"held_out_size": 4}, "held_out_size"),
        ({"data_seed": 1, "prompt": "plain"}, "data_seed, prompt"),
        ({"answers": 1, "max_new_tokens": 5}, "answers, max_new_tokens"),
    ],
)
def test_a_baseline_that_was_judged_otherwise_is_refused(
    whole, tiny_model, sums, tmp_path, changes, named
):
    with pytest.raises(RunError, match=rf"judged otherwise \({named} differ\)"):
        run(
            *(tiny_settings(tiny_model, sums, **changes), tmp_path / "out"),
            baseline=whole("lora"),
            stage=no_stage,
        )


@pytest.mark.parametrize("settings_file", [None, "{", "[]"])
def test_a_baseline_that_is_no_run_is_refused(tiny_model, sums, tmp_path, settings_file):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "before.json").write_text('{"loss": 1.0}')
    if settings_file is not None:
        (tmp_path / "base" / "settings.json").write_text(settings_file)
    with pytest.raises(RunError, match="baseline"):
        run(
            *(tiny_settings(tiny_model, sums), tmp_path / "out"),
            baseline=tmp_path / "base",
            stage=no_stage,
        )


# ---- settings ------------------------------------------------------------------------------------


def test_all_problems_of_the_settings_are_reported_together():
    with pytest.raises(ValidationError) as caught:
        TrainSettings(
            rank=0,
            lr=-1,
            steps=0,
            dropout=1.0,
            dtype="int8",
            schedule="zigzag",
            method="loram(gain=oops)",
            prompt="shout",
            learning_rate=1,
        )
    assert {problem["loc"][0] for problem in caught.value.errors()} == {
        *("rank", "lr", "steps", "dropout", "dtype", "schedule", "method", "prompt"),
        "learning_rate",
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 0.0])
@pytest.mark.parametrize("name", ["lr", "alpha"])
def test_numbers_that_cannot_be_are_refused(name, value):
    with pytest.raises(ValidationError, match=name):
        TrainSettings(**{name: value})


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("loram(gain=oops)", "gain=oops is not one of"),
        ("loram(sede=3)", "Did you mean seed"),
        ("loramx", "Did you mean loram"),
        ("pisa", "Did you mean pissa"),
        ("foo", "Known: full, lora"),
        ("", "unknown method"),
        ("loftq", "unknown method"),
        ("pissa(x=1)", "expected a row of"),
    ],
)
def test_a_method_that_cannot_be_used_is_refused_at_once(method, message):
    """Not after the model was loaded and judged."""
    with pytest.raises(ValidationError, match=message):
        TrainSettings(method=method)


def test_full_fine_tuning_has_no_ratio_of_rates():
    with pytest.raises(ValidationError, match="lr_ratio"):
        TrainSettings(method="full", lr_ratio=4)


def test_settings_are_frozen_and_survive_json():
    settings = TrainSettings(lr=1e-3, alpha=8, data_config="main")
    assert TrainSettings.model_validate_json(settings.model_dump_json()) == settings
    assert (settings.lora_alpha, TrainSettings(rank=5).lora_alpha) == (8.0, 5.0)
    with pytest.raises(ValidationError):
        settings.lr = 1.0
