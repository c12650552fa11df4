"""The growth of runs beside Adam's prediction."""

import csv
import json

import pytest

pytest.importorskip("matplotlib")

from loram.diagnose.growth import learning_rates
from loram.dynamics.adam import drift, update
from loram.dynamics.growth import Start
from loram.figures import FigureError, draw
from loram.train.settings import TrainSettings

STEPS, SIZE = 12, 0.02


def make(folder, *, p, torn=False, **settings):
    """A run of three layers that grow just as predicted at persistence p."""
    chosen = TrainSettings(rank=4, steps=STEPS, lr=1e-3, warmup_steps=1, **settings)
    rates = learning_rates(chosen)
    start = Start(n=8, m=8, r=4, nu_A=SIZE, nu_B=SIZE, scaling=1.0)
    lines = []
    for t in range(STEPS + 1):
        moved = update(start, drift(rates[:t], persistence=p))
        layers = {f"layers.{i}.q_proj": [SIZE, SIZE, moved] for i in range(3)}
        lines.append(json.dumps({"step": t, "layers": layers}) + "\n")
    folder.mkdir()
    (folder / "settings.json").write_text(chosen.model_dump_json())
    (folder / "magnitudes.jsonl").write_text("".join(lines) + ('{"step": 1' if torn else ""))
    rows = [json.dumps({"step": t + 1, "loss": 1.0}) + "\n" for t in range(STEPS)]
    (folder / "losses.jsonl").write_text("".join(rows))
    return folder


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("torn", [False, True])
def test_a_run_that_grew_as_predicted_lies_where_it_should(tmp_path, p, torn):
    run = make(tmp_path / "run", p=p, torn=torn)
    files, (found,) = draw("growth", tmp_path / "out", runs=[run])
    assert [file.name for file in files] == ["growth.png", "growth.svg", "growth.csv"]
    assert all(file.stat().st_size > 0 for file in files)
    assert found.persistence == pytest.approx(p, abs=0.02)
    if p == 1:
        assert found.straight == pytest.approx(1)
    if p == 0:
        assert found.walk == pytest.approx(1)
    with files[2].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["nu_update"]) == pytest.approx(found.measured)
    for row in rows:
        low, high = float(row["predicted_p0"]), float(row["predicted_p1"])
        assert low * (1 - 1e-9) <= float(row["nu_update"]) <= high * (1 + 1e-9)


def test_several_runs_have_a_panel_and_a_name_each(tmp_path):
    runs = [
        make(tmp_path / name, p=0.5, method=name) for name in ("lora", "loram", "pissa", "olora")
    ]
    _, found = draw("growth", tmp_path / "out", runs=runs)
    assert [each.name.split(",")[0] for each in found] == ["lora", "loram", "pissa", "olora"]
    drawn = (tmp_path / "out" / "growth.svg").read_text()
    assert all(each.name in drawn for each in found)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(FigureError, match="expected the folder of a run"):
        draw("growth", tmp_path / "out", runs=[tmp_path])


def test_a_run_without_an_adapter(tmp_path):
    run = make(tmp_path / "run", p=0.5, method="full")
    (run / "magnitudes.jsonl").unlink()
    with pytest.raises(FigureError, match="run"):
        draw("growth", tmp_path / "out", runs=[run])


def test_a_run_that_has_not_moved(tmp_path):
    run = make(tmp_path / "run", p=0.5)
    first = (run / "magnitudes.jsonl").read_text().splitlines()[0]
    (run / "magnitudes.jsonl").write_text(first + "\n")
    with pytest.raises(FigureError, match="some steps"):
        draw("growth", tmp_path / "out", runs=[run])
