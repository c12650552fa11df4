"""What runs moved beside the prediction, on logs that are written here."""

import csv
import math

import pytest

pytest.importorskip("matplotlib")

import json

from loram import cli
from loram.diagnose.growth import learning_rates
from loram.dynamics import Start
from loram.dynamics.adam import drift, update
from loram.figures import FigureError, draw
from loram.train.settings import TrainSettings

STARTS = {
    f"h.{i}": Start(n=8, m=8, r=4, nu_A=nu_A, nu_B=2e-4) for i, nu_A in enumerate((1e-3, 4e-3))
}


def write_run(folder, persistence=0.25, **changes):
    """A run whose update is exactly that of the prediction at one persistence."""
    settings = TrainSettings(model="none", rank=4, lr=1e-3, steps=12, **changes)
    folder.mkdir()
    (folder / "settings.json").write_text(settings.model_dump_json())
    rates, lines = learning_rates(settings), []
    for step in range(settings.steps + 1):
        D = drift(rates[:step], persistence=persistence)
        layers = {
            name: [each.nu_A, each.nu_B, update(each, D) if step else 0.0]
            for name, each in STARTS.items()
        }
        lines.append(json.dumps({"step": step, "layers": layers}) + "\n")
    (folder / "magnitudes.jsonl").write_text("".join(lines))
    return folder


def table(file):
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


@pytest.mark.parametrize("count", [1, 4, 5])
def test_the_persistence_of_a_run_is_found(tmp_path, count):
    persistences = [0.1 * (i + 1) for i in range(count)]
    folders = [write_run(tmp_path / str(i), p) for i, p in enumerate(persistences)]
    files, found = draw("growth", tmp_path / "out", runs=folders)
    assert [file.suffix for file in files] == [".png", ".svg", ".csv"]
    assert files[0].read_bytes().startswith(b"\x89PNG")
    # Exact up to the D² term, which is not linear in p.
    assert [each.persistence for each in found] == pytest.approx(persistences, rel=0.05)
    data = [row for row in table(files[2]) if row["step"] == "12"]
    for row, each in zip(data, found, strict=True):
        assert float(row["nu_update"]) == pytest.approx(each.measured)
        assert each.measured / float(row["predicted_p1"]) == pytest.approx(each.straight)
        assert each.measured / float(row["predicted_p0"]) == pytest.approx(each.walk)


def test_in_the_geometric_mean(tmp_path):
    run = write_run(tmp_path / "run", persistence=1.0)
    _, (found,) = draw("growth", tmp_path, runs=[run])
    D = drift(learning_rates(TrainSettings(model="none", rank=4, lr=1e-3, steps=12)))
    assert found.measured == pytest.approx(
        math.sqrt(math.prod(update(each, D) for each in STARTS.values()))
    )
    assert found.straight == pytest.approx(1.0)


def test_a_torn_log_is_read_up_to_it(tmp_path):
    run = write_run(tmp_path / "run")
    log = run / "magnitudes.jsonl"
    text = log.read_text()
    log.write_text(text[: text.index('"step": 9') + 20])
    files, _ = draw("growth", tmp_path / "out", runs=[run])
    assert table(files[2])[-1]["step"] == "8"


def test_no_runs(tmp_path):
    with pytest.raises(FigureError, match="folders of runs by `loram train`, got none"):
        draw("growth", tmp_path)


def test_not_a_run(tmp_path):
    with pytest.raises(FigureError, match="expected the folder of a run"):
        draw("growth", tmp_path / "out", runs=[tmp_path])


def test_full_fine_tuning_has_no_magnitudes(tmp_path):
    run = write_run(tmp_path / "run", method="full")
    (run / "magnitudes.jsonl").unlink()
    (run / "losses.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    with pytest.raises(FigureError, match="full fine-tuning logs none"):
        draw("growth", tmp_path / "out", runs=[run])


def test_a_nan_layer_is_refused_not_drawn(tmp_path):
    run = write_run(tmp_path / "run")
    log = run / "magnitudes.jsonl"
    first, *_ = log.read_text().splitlines()
    nothing = json.dumps({"step": 1, "layers": {"h.0": [None, None, None]}})
    log.write_text(f"{first}\n{nothing}\n")
    with pytest.raises(FigureError, match="no magnitudes that grow"):
        draw("growth", tmp_path / "out", runs=[run])


def test_on_the_command_line(tmp_path, monkeypatch, capsys):
    run, out = write_run(tmp_path / "run"), tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["loram", "figures", "growth", str(run), "--out", str(out)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    assert (out / "growth.svg").is_file()
    monkeypatch.setattr("sys.argv", ["loram", "figures", "growth", str(out)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert "expected the folder of a run" in capsys.readouterr().err
