"""Figure 3 on weights whose spectra are known."""

import csv
import logging

import pytest
import torch

pytest.importorskip("matplotlib")

from loram.figures import FigureError, spectra
from loram.figures.spectra import draw_spectra, pretrained_kinds, weights_by_kind
from loram.magnitude import log_gain
from loram.train.smollm2 import EmbeddedModelError


def rows(picture):
    with picture.with_suffix(".csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def orthogonal(n):
    return torch.linalg.qr(torch.randn(n, n, dtype=torch.float64))[0]


def test_known_spectra(tmp_path):
    """The numbers returned are those of the data; the logarithm is LoRAM's."""
    n = 20
    models = {"flat": {"a": [orthogonal(n) for _ in range(3)]}, "one": {"b": [torch.ones(8, n)]}}
    ticks = []
    gaps = draw_spectra(tmp_path / "3.png", models, at=4, tick=ticks.append)
    assert sum(ticks) == 4
    assert [(gap.model, gap.kind, gap.r) for gap in gaps] == [("flat", "a", 4), ("one", "b", 4)]
    data = {(row["model"], int(row["r"])): row for row in rows(tmp_path / "3.png")}
    for gap in gaps:
        row = data[gap.model, 4]
        assert float(row["median"]) == pytest.approx(gap.spectral)
        assert float(row["log_gain"]) == pytest.approx(gap.log)
    assert gaps[0].log == pytest.approx(log_gain(n, n, 4))
    assert max(float(row["q90"]) for row in data.values()) <= 1 + 1e-6
    assert all(float(r["q10"]) <= float(r["median"]) <= float(r["q90"]) for r in data.values())
    assert (tmp_path / "3.png").read_bytes().startswith(b"\x89PNG")


def test_a_rank_beyond_a_layer_is_not_returned(tmp_path):
    assert draw_spectra(tmp_path / "3.png", {"m": {"k": [torch.randn(4, 6)]}}, at=5) == []


def test_no_weights(tmp_path):
    with pytest.raises(FigureError, match="numbered blocks"):
        draw_spectra(tmp_path / "3.png", {"m": {}})


def test_kinds_of_a_model(llama):
    kinds = weights_by_kind(llama())
    assert {name: len(each) for name, each in kinds.items()} == {
        **{f"self_attn.{k}_proj": 2 for k in "qkvo"},
        **{f"mlp.{k}_proj": 2 for k in ("gate", "up", "down")},
    }


def test_a_missing_model_is_named_and_left_out(monkeypatch, llama, caplog):
    def missing():
        raise EmbeddedModelError("MiniLM: not installed: pip install it")

    monkeypatch.setattr(spectra, "_smollm2", llama)
    monkeypatch.setattr(spectra, "_minilm", missing)
    with caplog.at_level(logging.WARNING):
        assert list(pretrained_kinds()) == ["SmolLM2"]
    assert "pip install it" in caplog.text
    monkeypatch.setattr(spectra, "_smollm2", missing)
    with pytest.raises(FigureError, match="pip install it"):
        pretrained_kinds()
