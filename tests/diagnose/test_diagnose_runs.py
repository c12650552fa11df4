"""Run folders: logs up to where they are whole, growth against Adam's prediction."""

import csv
import json
import math
import re

import pytest
import torch
from transformers import get_scheduler

from loram.diagnose import DiagnoseError, diagnose, write
from loram.diagnose.growth import grown, learning_rates, persistence_of
from loram.diagnose.log import read_run
from loram.dynamics.adam import drift, update
from loram.dynamics.growth import Start
from loram.train.settings import TrainSettings

SIZE, STEPS = 0.03, 10


def make(folder, *, persistence=0.5, losses=None, **settings):
    """A run whose layers grow just as predicted."""
    chosen = TrainSettings(rank=4, steps=STEPS, lr=1e-3, **settings)
    rates = learning_rates(chosen)
    start = Start(n=4, m=4, r=4, nu_A=SIZE, nu_B=SIZE, scaling=chosen.lora_alpha / 4)
    ratio = chosen.lr_ratio or chosen.row.lr_ratio

    def line(t):
        moved = update(start, drift(rates[:t], persistence=persistence), ratio=ratio)
        layers = {f"layers.{i}.q_proj": [SIZE, SIZE, moved] for i in range(5)}
        return json.dumps({"step": t, "layers": layers}) + "\n"

    (folder / "settings.json").write_text(chosen.model_dump_json())
    (folder / "magnitudes.jsonl").write_text("".join(line(t) for t in range(STEPS + 1)))
    values = losses or [2 - 0.1 * t for t in range(STEPS)]
    rows = [json.dumps({"step": t + 1, "loss": loss}) + "\n" for t, loss in enumerate(values)]
    (folder / "losses.jsonl").write_text("".join(rows))
    return folder


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_rates_are_those_of_the_scheduler_step_by_step(schedule):
    settings = TrainSettings(schedule=schedule, steps=12, warmup_steps=3, lr=0.1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    stepped = get_scheduler(schedule, optimizer, num_warmup_steps=3, num_training_steps=12)
    for rate in learning_rates(settings):
        assert stepped.get_last_lr() == [pytest.approx(rate)]
        optimizer.step()
        stepped.step()


@pytest.mark.parametrize("settings", [{}, {"alpha": 16}, {"lr_ratio": 4.0, "method": "lora+"}])
@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_the_persistence_that_made_a_log_comes_out(tmp_path, settings, p):
    run = read_run(make(tmp_path, persistence=p, **settings))
    last = grown(run)[-1]
    assert last.step == STEPS
    assert persistence_of(last.median()) == pytest.approx(p, abs=0.02)
    assert diagnose(str(tmp_path)).advice == ()


def test_a_torn_last_line_is_left_out_and_said(tmp_path):
    log = make(tmp_path) / "magnitudes.jsonl"
    log.write_text(log.read_text()[:-30])
    run = read_run(tmp_path)
    assert [step.step for step in run.steps] == list(range(STEPS))
    assert run.torn == [f"magnitudes.jsonl, line {STEPS + 1}"]
    assert "read up to there" in diagnose(str(tmp_path)).advice[0]


def test_more_columns_and_unknown_values_are_read(tmp_path):
    """The probe writes what it can say of a layer, null for the rest."""
    log = make(tmp_path) / "magnitudes.jsonl"
    expected = read_run(tmp_path).steps
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    for row in rows:
        row["layers"] = {k: [*v, None, None, 1.0, None, None] for k, v in row["layers"].items()}
        row["layers"]["full"] = [None, None, 0.5, None, None, None, None, None]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = read_run(tmp_path)
    for step, same in zip(run.steps, expected, strict=True):
        assert step.layers.pop("full").update == 0.5
        assert step == same
    assert grown(run)[-1].step == STEPS


def test_the_size_of_the_update_beside_the_weight(tmp_path):
    log = make(tmp_path) / "magnitudes.jsonl"
    assert read_run(tmp_path).weights == {}
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    weights = {f"layers.{i}.q_proj": 0.5 * 2**i for i in range(4)} | {"layers.4.q_proj": None}
    rows[0]["weights"] = weights
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_run(tmp_path).weights == {k: v for k, v in weights.items() if v}
    (shown,) = diagnose(str(tmp_path)).summary.rows
    moved = rows[-1]["layers"]["layers.0.q_proj"][2]
    ratio = dict(zip(diagnose(str(tmp_path)).summary.headings, shown, strict=True))["/ν[W]"]
    assert ratio == pytest.approx((moved / 1 + moved / 2) / 2)  # median of 1/0.5, 1, 1/2, 1/4


def test_a_killed_run_without_losses_is_read(tmp_path):
    (make(tmp_path) / "losses.jsonl").unlink()
    assert diagnose(str(tmp_path)).title.endswith(f"step {STEPS} of {STEPS} (medians)")


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([1.0 + t for t in range(STEPS)], "the loss rose, from 1.5 .* to 9.5"),
        ([1.0, math.nan, *[1.0] * 8], "not finite from step 2 on"),
    ],
)
def test_a_loss_that_rises_or_breaks_is_said(tmp_path, losses, message):
    make(tmp_path, losses=losses)
    (line,) = diagnose(str(tmp_path)).advice
    assert re.search(message, line)


@pytest.mark.parametrize(
    ("factor", "message"), [(100, "as Adam can"), (1e-3, "less than half"), (0, "still zero")]
)
def test_growth_out_of_the_band_is_said(tmp_path, factor, message):
    log = make(tmp_path) / "magnitudes.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    for row in rows:
        for values in row["layers"].values():
            values[2] *= factor
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert message in " ".join(diagnose(str(tmp_path)).advice)


def test_curves_are_written(tmp_path):
    pytest.importorskip("matplotlib")
    files = write(diagnose(str(make(tmp_path))), tmp_path / "out")
    assert {file.name for file in files} == {"run.csv", "run_layers.csv", "run.png", "run.svg"}
    rows = list(
        csv.DictReader((tmp_path / "out" / "run.csv").read_text(encoding="utf-8").splitlines())
    )
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    last = rows[-1]
    low, measured, high = (
        float(last[key]) for key in ("predicted_p0", "nu_update_median", "predicted_p1")
    )
    assert low < measured < high


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("settings.json", "{}}", "expected the settings of a run"),
        ("magnitudes.jsonl", '{"step": 1, "layers": {"a": [1]}}\n', "expected layers as name"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path, file, content, message):
    (make(tmp_path) / file).write_text(content)
    with pytest.raises(DiagnoseError, match=message):
        diagnose(str(tmp_path))


def test_a_run_that_has_logged_nothing_is_refused(tmp_path):
    make(tmp_path)
    for name in ("losses.jsonl", "magnitudes.jsonl"):
        (tmp_path / name).unlink()
    with pytest.raises(DiagnoseError, match="no step is logged yet"):
        diagnose(str(tmp_path))
