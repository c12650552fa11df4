"""`loram diagnose` from end to end."""

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from loram import cli


def test_a_checkpoint_is_shown_with_its_advice_and_files(tmp_path):
    layers = {f"h.{i}.q_proj.weight": torch.randn(64, 48) for i in range(4)}
    layers["h.4.q_proj.weight"] = torch.zeros(64, 48)
    save_file(layers, tmp_path / "model.safetensors")
    words = ["diagnose", str(tmp_path), "--spectrum", "randomised", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli.app, words, env={"COLUMNS": "200"})
    assert done.exit_code == 0
    for text in ("5 linear layers, r = 16", "ρ[r]", "1 layer (h.4.q_proj): all zero", "layers.csv"):
        assert text in done.output
    assert (tmp_path / "out" / "layers.csv").is_file()


def test_a_pickle_is_a_users_error_without_traceback(tmp_path, monkeypatch, capsys):
    file = tmp_path / "model.pt"
    file.write_bytes(b"")
    monkeypatch.setattr("sys.argv", ["loram", "diagnose", str(file)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert "pickles are not read" in capsys.readouterr().err
