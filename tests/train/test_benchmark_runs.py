"""Whole runs on tasks of choices, programs and judged answers, with a tiny model."""

import json
from pathlib import Path

import pytest
from tiny import rows

from loram.tasks.programs.sandbox import Sandbox, SandboxError
from loram.tasks.table import TASKS, named
from loram.train import TrainSettings
from loram.train.run import run


def write(file: Path, lines: list[dict]) -> None:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def settings(model: Path, data: Path, task: str, **changes) -> TrainSettings:
    values = {
        "model": str(model),
        "data": str(data),
        "task": task,
        "rank": 2,
        "lr": 1e-2,
        "steps": 3,
        "batch_size": 2,
        "dtype": "float32",
        "save_every": 0,
        "max_new_tokens": 4,
    }
    return TrainSettings(**(values | changes))


def test_choices_are_trained_and_judged(tiny_model, tmp_path):
    asked = "Which is right: {}?\n\nAnswer1: a Answer2: b\n\nAnswer format: answer1/answer2"
    lines = [{"instruction": asked.format(i), "answer": "answer2"} for i in range(20)]
    write(tmp_path / "piqa_train.jsonl", lines[:14])
    write(tmp_path / "piqa_test.jsonl", lines[14:])
    results = run(
        settings(
            *(tiny_model, tmp_path, "commonsense/piqa"),
            validation_size=4, judge_every=1, steps=25, lr=3e-2, rank=8,
        ),
        tmp_path / "run",
    )  # fmt: skip
    assert (results["metric"], results["better"]) == ("accuracy", "high")
    before, test = results["metrics"]["before"], results["metrics"]["test"]
    assert {*test} == {"loss", "accuracy", "accuracy_norm"}
    assert test["loss"] < before["loss"]
    assert test["accuracy"] == results["metrics"]["validation"]["accuracy"] == 1.0  # always 2
    curve = rows(tmp_path / "run" / "curve.jsonl")
    assert all("accuracy" in line["metrics"] for line in curve)
    (first, *_) = rows(tmp_path / "run" / "answers.jsonl")
    assert first["after"] == first["reference"] == "the correct answer is answer2"


@pytest.fixture
def problems(tmp_path) -> Path:
    lines = [
        {
            "task_id": task,
            "text": f"Write a function that returns {task}.",
            "code": f"def f():\n    return {task}",
            "test_setup_code": "",
            "test_list": [f"assert f() == {task}"],
        }
        for task in (11, 12, 511, *range(601, 607))
    ]
    write(tmp_path / "mbpp.jsonl", lines)
    return tmp_path


def test_programs_are_not_run_unless_that_is_said(tiny_model, problems):
    with pytest.raises(ValueError, match="--run-generated-code"):
        settings(tiny_model, problems, "mbpp")


@pytest.mark.parametrize("samples", [1, 5])
def test_programs_are_written_run_and_counted(tiny_model, problems, monkeypatch, samples):
    try:
        Sandbox(run_generated_code=True)
    except SandboxError as error:
        pytest.skip(f"no sandbox here: {error}")
    from loram.train import programming

    def write_texts(model, tokenizer, asked, prompt, **options):
        """Right for the first problem, and then wrong ones."""
        options["progress"](len(asked))
        return [[asked[0].answer, *["x"] * (options["samples"] - 1)] for _ in asked]

    monkeypatch.setattr(programming, "write_texts", write_texts)
    results = run(
        settings(
            *(tiny_model, problems, "mbpp"),
            run_generated_code=True, samples=samples, program_seconds=2,
        ),
        problems / "run",
    )  # fmt: skip
    test = results["metrics"]["test"]
    assert test["pass@1"] == pytest.approx(1 / (2 * samples))
    assert ("pass@5" in test) == (samples == 5)
    if samples == 5:
        assert test["pass@5"] == 0.5
    one, other = rows(problems / "run" / "answers.jsonl")
    assert (one["correct_after"], other["correct_after"]) == (True, False)


def test_answers_of_a_benchmark_are_judged_by_all_its_rules(tiny_model, tmp_path):
    lines = [{"question": f"{i} + {i}?", "answer": f"#### {2 * i}"} for i in range(12)]
    write(tmp_path / "train.jsonl", lines[:8])
    write(tmp_path / "test.jsonl", lines[8:])
    results = run(settings(tiny_model, tmp_path, "gsm8k"), tmp_path / "run")
    assert {*results["metrics"]["test"]} == {"loss", "exact_match", "exact_match_flexible"}
    assert len(rows(tmp_path / "run" / "answers.jsonl")) == 4


def test_every_row_of_answers_can_be_scored_and_every_other_row_is_judged_by_its_kind():
    for task in TASKS.values():
        assert named(task.name.upper()) is task
        assert (task.score is not None) == (task.kind in ("answers", "labels"))
        for rule in [task.score, *task.also.values()] if task.kind == "answers" else []:
            assert rule is not None
            assert rule("4", r"#### 3 \boxed{3}") is False
