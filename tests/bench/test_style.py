"""`bench/style`: a tiny transformer pretrained on eighteen squares and adapted to others."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

pytest.importorskip("diffusers")

STYLE = Path(__file__).parents[2] / "bench" / "style"
SIZES = ["--train-images", "4", "--validation-images", "4", "--test-images", "9"]


def mean_colour(images):
    return SimpleNamespace(last_hidden_state=images.flatten(2).transpose(1, 2))


@pytest.fixture
def style(monkeypatch):
    """The scripts' folder on the path, as when they run; colours for EfficientNet's features."""
    monkeypatch.syspath_prepend(str(STYLE))
    names = [file.stem for file in STYLE.glob("*.py")]
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    import adapt  # pyright: ignore
    import features  # pyright: ignore
    import pretrain  # pyright: ignore

    monkeypatch.setattr(features, "tower", lambda: mean_colour)
    threads = torch.get_num_threads()
    yield pretrain, adapt
    torch.set_num_threads(threads)
    for name in names:
        sys.modules.pop(name, None)


def squares(folder: Path, side: int) -> Path:
    """Emoji of one vendor: squares of a colour each."""
    folder.mkdir()
    rows = []
    for i in range(18):
        image = Image.new("RGB", (32, 32), "white")
        image.paste((14 * i, 255 - 14 * i, 128), (4, 4, 4 + side, 4 + side))
        image.save(folder / f"{i:02d}.png")
        rows.append({"image": f"{i:02d}.png", "question": "?", "answer": "smileys and emotion"})
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:12]))
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[12:]))
    return folder


def test_pretrains_adapts_reports_and_goes_on(style, tmp_path, monkeypatch, capsys):
    pretrain, adapt = style
    old, new = squares(tmp_path / "old", 8), squares(tmp_path / "new", 24)
    base, out = tmp_path / "base", tmp_path / "out"
    small = ["--width", "64", "--depth", "1", "--batch-size", "4", "--steps", "4"]
    pretrain.main(["--data", str(old), "--out", str(base), *small])
    assert json.loads((base / "emoji.json").read_text()) == [f"{i:02d}.png" for i in range(18)]
    losses = (base / "losses.jsonl").read_text().splitlines()
    assert len(losses) == 4
    command = ["--base", str(base), "--source", str(old), "--data", str(new), "--out", str(out)]
    command += [*SIZES, "--steps", "2", "--judge-every", "1", "--batch-size", "2", "--seeds", "2"]
    command += ["--methods", "lora", "loram", "--points", "-12", "-11", "--rank", "4"]
    monkeypatch.setattr(adapt, "EXTEND", 0)
    adapt.main(command)
    records = [json.loads(file.read_text()) for file in out.glob("runs/*/record.json")]
    assert {(each["method"], each["seed"]) for each in records} == {
        (method, seed) for method in ("lora", "loram") for seed in (0, 1)
    }
    for each in records:
        assert each["status"] == "done"
        assert set(each["test"]) == {"distance", "kernel", "loss"}
        assert len(each["losses"]) == 2
        assert each["update"] > 0
        assert 0 < each["test"]["distance"] < 2
    assert "the pretrained model" in (out / "distances.md").read_text()
    assert (out / "report" / "report.md").exists()
    # Rows: old, untrained, two steps of two methods, new; 64 pixels each.
    with Image.open(out / "grid.png") as grid:
        assert grid.height == 7 * 64
    capsys.readouterr()
    monkeypatch.setattr(adapt, "run_one", None)  # what is done is not done again
    adapt.main(command)


def test_pretraining_goes_on_with_the_same_numbers(style, tmp_path, monkeypatch):
    pretrain, _ = style
    data = squares(tmp_path / "old", 8)
    small = ["--width", "64", "--depth", "1", "--batch-size", "4", "--steps", "4"]
    pretrain.main(["--data", str(data), "--out", str(tmp_path / "whole"), *small])
    monkeypatch.setattr(pretrain, "EVERY", 2)
    real, calls = pretrain.loss, []

    def dying(*given):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*given)

    command = ["--data", str(data), "--out", str(tmp_path / "twice"), *small]
    monkeypatch.setattr(pretrain, "loss", dying)
    with pytest.raises(KeyboardInterrupt):
        pretrain.main(command)
    monkeypatch.setattr(pretrain, "loss", real)
    pretrain.main(command)
    whole, twice = ((tmp_path / name / "losses.jsonl").read_text() for name in ("whole", "twice"))
    assert whole == twice


def test_kernel_distance_is_the_unbiased_mmd(style):
    import features  # pyright: ignore

    torch.manual_seed(1)
    x, y = torch.randn(5, 3).double(), torch.randn(4, 3).double() + 1

    def k(a, b):
        return (float(a @ b) / 3 + 1) ** 3

    within_x = sum(k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j) / 20
    within_y = sum(k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j) / 12
    between = sum(k(a, b) for a in x for b in y) / 20
    assert features.kernel_distance(x, y) == pytest.approx(within_x + within_y - 2 * between)


def test_other_emoji_than_pretrained_on_are_refused(style, tmp_path):
    _, adapt = style
    base = tmp_path / "base"
    base.mkdir()
    (base / "emoji.json").write_text('["another.png"]')
    data = squares(tmp_path / "old", 8)
    with pytest.raises(SystemExit, match="pretrained on other emoji"):
        adapt.main(["--base", str(base), "--source", str(data), "--data", str(data)])
