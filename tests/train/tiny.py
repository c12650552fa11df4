"""What the training tests share: the settings of a run of seconds, and ways to kill it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from loram.train import TrainSettings


class Killed(BaseException):
    """Not an Exception: nothing in the run may catch it."""


def tiny_settings(model: Path, data: Path, **changes: Any) -> TrainSettings:
    """Six steps, a checkpoint every two; dropout, so that a resumed run needs the random state."""
    values: dict[str, Any] = {
        "model": str(model),
        "data": str(data),
        "rank": 4,
        "lr": 1e-2,
        "dropout": 0.1,
        "steps": 6,
        "save_every": 2,
        "warmup_steps": 1,
        "batch_size": 2,
        "dtype": "float32",
        "held_out_size": 5,
        "answers": 2,
        "max_new_tokens": 4,
    }
    return TrainSettings(**(values | changes))


def kill_at(stage: str, parts: int = 0) -> Callable[[str, int | None], Callable[[int], None]]:
    """A `stage` that dies when `parts` parts of the stage that starts with this name are done."""

    def open_stage(what: str, total: int | None) -> Callable[[int], None]:
        done = 0
        if what.startswith(stage) and parts == 0:
            raise Killed

        def tick(n: int) -> None:
            nonlocal done
            done += n
            if what.startswith(stage) and done >= parts:
                raise Killed

        return tick

    return open_stage


def no_stage(what: str, total: int | None) -> Callable[[int], None]:
    """A `stage` for a run that must not do anything."""
    raise AssertionError(f"the run went on with {what!r}")


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


_TIMED = ("init_seconds", "train_seconds", "tokens_per_second", "step_seconds", "peak_memory_bytes")


def assert_same_run(got: Path, expected: Path) -> None:
    """The same losses, magnitudes, answers, results and adapter, bit for bit; not the times."""
    assert {each.name for each in got.iterdir()} == {each.name for each in expected.iterdir()}
    for name in ("losses.jsonl", "magnitudes.jsonl", "answers.jsonl", "before.json"):
        if not (expected / name).exists():
            continue  # of tasks that are not answered in words
        assert (got / name).read_text() == (expected / name).read_text(), name
    one, other = (
        {k: v for k, v in json.loads((out / "results.json").read_text()).items() if k not in _TIMED}
        for out in (got, expected)
    )
    assert one == other
    mine, theirs = (
        load_file(out / "adapter" / "adapter_model.safetensors") for out in (got, expected)
    )
    assert mine.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert torch.equal(mine[key], tensor), key
