"""The demo's pictures, and the tidy data beside each."""

import csv
import json
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from loram.demo.figures import draw_losses, draw_magnitudes

METHODS = ["LoRA", "PiSSA", "LoRAM"]


def write(file: Path, rows: list[dict]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def losses(folder: Path, steps: int) -> dict[str, Path]:
    return {
        name: write(
            folder / f"{name}.jsonl",
            [{"step": s, "loss": 3.0 - 0.1 * s - i} for s in range(1, steps + 1)],
        )
        for i, name in enumerate(METHODS)
    }


def magnitudes(folder: Path, steps: int, moved_from: int) -> dict[str, Path]:
    """Three layers whose updates are 0 before step `moved_from`, then 1, 2 and 4 times the step."""

    def row(s: int) -> dict:
        updates = [float(factor * s) if s >= moved_from else 0.0 for factor in (1, 2, 4)]
        return {"step": s, "layers": {f"layer{k}": [1.0, 1.0, u] for k, u in enumerate(updates)}}

    rows = [row(s) for s in range(steps + 1)]
    return {name: write(folder / f"{name}.jsonl", rows) for name in METHODS}


def table(picture: Path) -> list[list[str]]:
    with picture.with_suffix(".csv").open(newline="") as file:
        return list(csv.reader(file))


def assert_png(file: Path) -> None:
    assert file.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert file.stat().st_size > 5000


@pytest.mark.parametrize("steps", [1, 2, 12])
def test_losses_are_drawn_and_tabulated(tmp_path, steps):
    picture = draw_losses(losses(tmp_path, steps), tmp_path / "made" / "losses.png")
    assert picture == tmp_path / "made" / "losses.png"
    assert_png(picture)
    head, *rows = table(picture)
    assert head == ["method", "step", "loss"]
    assert [(name, int(step), float(loss)) for name, step, loss in rows] == [
        (name, s, 3.0 - 0.1 * s - i) for i, name in enumerate(METHODS) for s in range(1, steps + 1)
    ]


@pytest.mark.parametrize(("steps", "moved_from"), [(1, 1), (2, 2), (9, 1), (9, 3)])
def test_magnitudes_are_drawn_and_their_medians_tabulated(tmp_path, steps, moved_from):
    logs = magnitudes(tmp_path, steps, moved_from)
    picture = draw_magnitudes(logs, tmp_path / "made" / "magnitudes.png")
    assert_png(picture)
    head, *rows = table(picture)
    assert head == ["method", "step", "median_nu_update"]
    # Steps before anything has moved have no place on a logarithmic axis.
    assert [(name, int(step), float(value)) for name, step, value in rows] == [
        (name, s, 2.0 * s) for name in METHODS for s in range(moved_from, steps + 1)
    ]


def test_a_run_that_has_not_moved_yet_is_drawn_too(tmp_path):
    """`loram demo --steps 1`: the first step of a warm-up is at a rate of 0."""
    picture = draw_magnitudes(magnitudes(tmp_path, 1, 5), tmp_path / "magnitudes.png")
    assert_png(picture)
    assert table(picture) == [["method", "step", "median_nu_update"]]


def test_every_method_that_is_given_is_drawn(tmp_path):
    logs = {f"method {i}": log for i, log in enumerate(losses(tmp_path, 3).values())}
    more = logs | {f"again {name}": log for name, log in logs.items()}
    assert {row[0] for row in table(draw_losses(more, tmp_path / "losses.png"))[1:]} == set(more)
    logs = magnitudes(tmp_path, 3, 1)
    more = logs | {f"again {name}": log for name, log in logs.items()}
    picture = draw_magnitudes(more, tmp_path / "magnitudes.png")
    assert {row[0] for row in table(picture)[1:]} == set(more)
