"""Checkpoints: every figure against its definition, every kind of damage against its message."""

import csv
import json
import re

import pytest
import torch
from safetensors.torch import save_file

from loram.checkpoints import CheckpointError, entries, weight_files
from loram.diagnose import DiagnoseError, diagnose, write
from loram.diagnose.names import depth_of, is_target, kind_of
from loram.diagnose.tensors import read
from loram.diagnose.weights import diagnose_weights
from loram.magnitude import log_gain, nu, spectral_gain
from loram.schemes.loram import beta
from loram.spectrum import GainBounds


@pytest.fixture
def folder(llama, tmp_path):
    llama().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("spectrum", ["none", "exact", "randomised"])
def test_every_layer_has_the_figures_of_its_weight(llama, folder, spectrum):
    found = diagnose_weights(weight_files(folder), rank=4, spectrum=spectrum)
    weights = {
        name: module.weight.detach()
        for name, module in llama().named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    assert {layer.name for layer in found.layers} == set(weights)
    for layer in found.layers:
        W = weights[layer.name]
        assert layer.shape == tuple(W.shape)
        assert layer.nu == pytest.approx(nu(W))
        assert layer.log_gain == log_gain(*W.shape, 4)
        assert layer.beta == pytest.approx(beta(W, 4))
        if spectrum == "none":
            assert layer.gain is None
        else:
            assert layer.gain.low <= spectral_gain(W, 4) <= layer.gain.high
    assert found.unread == ()


def test_shards_read_as_one_file(folder, llama, tmp_path):
    llama().save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(weight_files(tmp_path / "shards")) > 1
    whole, parts = (
        {layer.name: layer.nu for layer in diagnose_weights(weight_files(path)).layers}
        for path in (folder, tmp_path / "shards")
    )
    assert parts == pytest.approx(whole)


def test_every_tensor_is_read_once_whatever_the_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("loram.diagnose.tensors._FLOOR", 0)
    sizes = (3, 70, 5, 64, 1)
    tensors = {f"t{i}": torch.full((size, 2), float(i)) for i, size in enumerate(sizes)}
    save_file(tensors, tmp_path / "x.safetensors")
    seen = {}
    read(entries(tmp_path / "x.safetensors"), lambda e, W: seen.update({e.name: float(W.mean())}))
    assert seen == {f"t{i}": i for i in range(len(sizes))}


def advice(tmp_path, tensors, rank=4):
    save_file(tensors, tmp_path / "model.safetensors")
    return " ".join(diagnose(str(tmp_path), rank=rank).advice)


def layers(**changed):
    good = {f"l.{i}.q_proj.weight": torch.randn(32, 16) for i in range(5)}
    return good | {f"l.9.{name}.weight": W for name, W in changed.items()}


@pytest.mark.parametrize(
    ("W", "message"),
    [
        (torch.full((32, 16), float("nan")), "NaN or Inf"),
        (torch.zeros(32, 16), "all zero"),
        (torch.full((32, 16), 0.5), "all entries are equal"),
        (torch.randn(3, 16), r"rank 4 is above min\(n, m\)"),
        (100 * torch.randn(32, 16), "10 times the median"),
        (torch.ones(32, 16, dtype=torch.int8), "codes"),
    ],
)
def test_a_bad_layer_is_named_and_nothing_else_is(tmp_path, W, message):
    text = advice(tmp_path, layers(q_proj=W))
    assert text.startswith("1 layer (l.9.q_proj")
    assert re.search(message, text)


def test_good_layers_get_no_advice_and_rank_one_does(tmp_path):
    assert advice(tmp_path, layers()) == ""
    assert "r = 1 the log gain is log 1 = 0" in advice(tmp_path, layers(), rank=1)


def test_packed_weights_are_reported_and_not_read(tmp_path):
    packed = {"l.0.q_proj.qweight": torch.ones(4, 8, dtype=torch.int32)}
    packed["l.0.k_proj.weight"] = torch.ones(64, 1, dtype=torch.uint8)
    text = advice(tmp_path, packed)
    assert "l.0.q_proj I32" in text
    assert "l.0.k_proj U8" in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"", "model.safetensors: not a whole"),
        ("model.safetensors", b"garbage, and more than eight bytes", "model.safetensors: not a w"),
        ("pytorch_model.bin", b"", "pickles are not read"),
        ("readme.txt", b"", "expected a .*safetensors file"),
        ("model.safetensors.index.json", b"{", "weight_map"),
        (
            "model.safetensors.index.json",
            json.dumps({"weight_map": {"a": "b.safetensors"}}).encode(),
            "b.safetensors, which is not there",
        ),
        (
            "model.safetensors.index.json",
            json.dumps({"weight_map": {"a": "b.bin"}}).encode(),
            "pickles are not read",
        ),
    ],
)
def test_what_can_not_be_read_is_refused_by_name(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        diagnose(str(tmp_path))


def test_a_file_cut_short_is_refused(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not a whole"):
        diagnose(str(file))


def test_nothing_there_and_nothing_linear_are_said(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        diagnose(str(tmp_path / "none"))
    with pytest.raises(CheckpointError, match="neither a file or folder here"):
        diagnose("nobody/nothing")
    save_file({"norm.weight": torch.ones(4)}, tmp_path / "m.safetensors")
    with pytest.raises(DiagnoseError, match="no linear layer among 1 tensors"):
        diagnose(str(tmp_path))


def test_tables_and_pictures_are_written(folder, tmp_path):
    pytest.importorskip("matplotlib")
    files = write(diagnose(str(folder), rank=4, spectrum="exact"), tmp_path / "out")
    assert {file.name for file in files} == {
        *("layers.csv", "kinds.csv", "layers.png", "layers.svg")
    }
    rows = list(
        csv.DictReader((tmp_path / "out" / "layers.csv").read_text(encoding="utf-8").splitlines())
    )
    assert len(rows) == 14
    for row in rows:
        R = min(int(row["n"]), int(row["m"]))
        assert float(row["rho"]) * 4 / R == pytest.approx(float(row["Q"]))


def test_names_tell_targets_kinds_and_depth():
    assert is_target("model.layers.3.self_attn.q_proj.weight", (4, 4))
    for name in ("model.embed_tokens.weight", "lm_head.weight", "transformer.wte.weight"):
        assert not is_target(name, (4, 4))
        assert is_target(name, (4, 4), everything=True)
    assert not is_target("a.weight", (4, 4, 3))
    assert not is_target("a.bias", (4, 4))
    assert kind_of("encoder.layer.3.output.dense") == "output.dense"
    assert kind_of("head.0") == "head"
    assert (depth_of("model.layers.3.mlp.experts.7.w1"), depth_of("head")) == (3, 0)


def test_the_exact_gain_has_no_error(folder):
    found = diagnose_weights(weight_files(folder), rank=4, spectrum="exact")
    assert all(isinstance(x.gain, GainBounds) and x.gain.low == x.gain.high for x in found.layers)
