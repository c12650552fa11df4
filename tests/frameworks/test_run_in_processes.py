"""A run that `torchrun` starts in two processes is the run of one; kills and divergence too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from loram.study.compare import compare
from loram.train import RunError, TrainSettings, run

TORCHRUN = f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2"


def settings_of(model: Path, data: Path, **changes) -> TrainSettings:
    values = {
        **{"model": str(model), "data": str(data), "method": "loram", "rank": 4, "lr": 1e-2},
        **{"steps": 6, "save_every": 2, "batch_size": 4, "dtype": "float32", "warmup_steps": 1},
        **{"held_out_size": 5, "validation_size": 4, "judge_every": 3, "answers": 2},
        **{"max_new_tokens": 4},
    }
    return TrainSettings(**(values | changes))


def losses(folder: Path) -> torch.Tensor:
    lines = (folder / "losses.jsonl").read_text().splitlines()
    return torch.tensor([json.loads(line)["loss"] for line in lines], dtype=torch.float64)


def metrics(folder: Path) -> dict[str, float]:
    return json.loads((folder / "results.json").read_text())["metrics"]["test"]


def options(settings: TrainSettings) -> list[str]:
    words: list[str] = []
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return words


def two(settings: TrainSettings, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TORCHRUN.split(), "-m", "loram", "train", *options(settings), "--out", str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("grouped", [False, True])
def test_two_processes_give_the_run_of_one(tiny_model, sums, tmp_path, grouped):
    settings = settings_of(tiny_model, sums, **({"group_by_length": True} if grouped else {}))
    run(settings, tmp_path / "one")
    done = two(settings, tmp_path / "two")
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("adapter: ") == 1
    one, other = tmp_path / "one", tmp_path / "two"
    torch.testing.assert_close(losses(other), losses(one), rtol=1e-5, atol=0)
    assert metrics(other) == pytest.approx(metrics(one), rel=1e-4)
    assert {each.name for each in other.iterdir()} == {each.name for each in one.iterdir()}
    assert json.loads((other / "results.json").read_text())["processes"] == 2
    lines = (other / "magnitudes.jsonl").read_text().splitlines()
    assert len(lines) == len((one / "magnitudes.jsonl").read_text().splitlines())


def test_a_batch_that_cannot_be_shared_is_refused(tiny_model, sums, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(RunError, match="batch_size that 3 processes can share equally, got 4"):
        run(settings_of(tiny_model, sums), tmp_path / "out")
    assert not (tmp_path / "out").exists()


STUDY = """
name: launched
base: {{model: {model}, data: {data}, steps: 3, batch_size: 4, dtype: float32, held_out_size: 4,
  validation_size: 4, save_every: 0}}
tasks: [answers]
methods: [loram]
ranks: [4]
recipe: {{lrs: [{lr}]}}
seeds: [0]
retries: 0
{launch}
"""


def studied(tiny_model: Path, sums: Path, out: Path, launch: str, lr: float = 1e-2):
    file = out.with_suffix(".yaml")
    file.write_text(STUDY.format(model=tiny_model, data=sums, lr=lr, launch=launch))
    compare(file, out, console=Console())
    return [json.loads(file.read_text()) for file in sorted(out.glob("runs/*/record.json"))]


def test_a_study_launches_its_runs(tiny_model, sums, tmp_path):
    (alone,) = studied(tiny_model, sums, tmp_path / "one", "")
    (two_of_them,) = studied(tiny_model, sums, tmp_path / "two", f"launch: {TORCHRUN}")
    assert two_of_them["status"] == alone["status"] == "done"
    assert two_of_them["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    assert two_of_them["key"] != alone["key"]


def test_a_launched_run_that_diverges_is_a_result(tiny_model, sums, tmp_path):
    (record,) = studied(tiny_model, sums, tmp_path / "out", f"launch: {TORCHRUN}", lr=1e30)
    assert record["status"] == "diverged"


def test_a_launcher_that_is_none_is_named(tiny_model, sums, tmp_path):
    (record,) = studied(tiny_model, sums, tmp_path / "out", "launch: no-such-launcher")
    assert record["status"] == "failed"
    assert "can't start no-such-launcher" in record["error"]
