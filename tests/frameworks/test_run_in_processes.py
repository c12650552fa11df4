"""A run that `torchrun` starts in two processes is the run of one; kills and divergence too."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from loram.study.compare import compare
from loram.study.errors import StudyError
from loram.train import DivergedError, RunError, TrainSettings, run

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


def test_word_of_divergence_is_left_by_whichever_process_comes_to_it(
    tiny_model, sums, tmp_path, monkeypatch
):
    """A launcher may kill the first process as soon as another one ends."""
    module = sys.modules["loram.train.run"]

    def diverge(*_):
        raise DivergedError("the loss is nan", 3)

    monkeypatch.setattr(module, "_run", diverge)
    monkeypatch.setattr(module, "first", lambda: False)
    with pytest.raises(DivergedError):
        run(settings_of(tiny_model, sums), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "diverged.json").read_text())["step"] == 3
    assert {each.name for each in (tmp_path / "out").iterdir()} == {
        "settings.json",
        "diverged.json",
    }


def test_a_launcher_that_is_none_is_named(tiny_model, sums, tmp_path):
    with pytest.raises(StudyError, match="there is no command 'no-such-launcher' here"):
        studied(tiny_model, sums, tmp_path / "out", "launch: no-such-launcher")


ORPHAN = """
import os, sys
from loram.study.launched import _die_with
print("started", flush=True)
_die_with(sys.argv[1])
"""


def test_a_launched_process_ends_with_its_worker_even_where_that_stays_a_zombie(tmp_path):
    held = tmp_path / "held"
    held.touch()
    worker = os.fork()
    if worker == 0:  # never asked for until the end: a zombie
        file = held.open("rb")
        fcntl.flock(file, fcntl.LOCK_EX)
        (tmp_path / "locked").touch()
        time.sleep(60)
        os._exit(0)
    try:
        while not (tmp_path / "locked").exists():
            time.sleep(0.01)
        words = [sys.executable, "-c", ORPHAN, str(held)]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"started\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            os.kill(worker, signal.SIGKILL)
            assert process.wait(10) == 1
    finally:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
