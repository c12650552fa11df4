"""`loram equivalents` from end to end, and what a user gets wrong."""

import pytest
from typer.testing import CliRunner

from loram import cli


def equivalents(*words):
    return CliRunner().invoke(cli.app, ["equivalents", *map(str, words)], env={"COLUMNS": "200"})


def test_the_table():
    done = equivalents("--alpha", 32, "--lr", 1e-4)
    assert done.exit_code == 0
    lines = {line.split()[0]: line.split()[1:] for line in done.output.splitlines() if line.split()}
    assert lines["s"][:2] == ["2", "1"]
    assert lines["η_A"][0] == "0.0001"
    assert "0.0002" in lines["η_B"]
    assert "max_grad_norm=0" in done.output


def test_rslora_as_lora_plus():
    done = equivalents("--rslora", "--rank", 16)
    row = next(line for line in done.output.splitlines() if line.split()[:1] == ["η_B/η_A"])
    assert row.split()[1:3] == ["1", "4"]


def test_twice_is_the_same():
    assert equivalents("--alpha", 8).output == equivalents("--alpha", 8).output


def test_match(tiny_model):
    words = ["--match", "lora", "--to", "pissa, loram(gain=0.1, basis=etf)", "--rank", 4]
    done = equivalents(*words, "--model", tiny_model, "--steps", 30, "--persistence", 0.2)
    assert done.exit_code == 0, done.output
    assert "loram(gain=0.1, basis=etf)" in done.output
    assert "after 30 steps" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--alpha", "-3"], "a finite scaling"),
        (["--alpha", "0"], "a finite scaling"),
        (["--alpha", "nan"], "a finite scaling"),
        (["--lr", "-1e-4"], "finite learning rates > 0"),
        (["--lr", "inf"], "finite learning rates"),
        (["--lr-ratio", "0"], "finite learning rates > 0"),
        (["--eps", "-1"], "≥ 0"),
        (["--weight-decay", "-1"], "weight-decay"),
        (["--rank", "0"], "rank"),
        (["--optimizer", "lion"], "lion"),
        (["--match", "lora"], "--match and --to go together"),
        (["--to", "pissa"], "--match and --to go together"),
        (["--match", "lora", "--to", "pissa,"], "nothing between two commas"),
        (["--persistence", "1.5"], "persistence"),
    ],
)
def test_bad_numbers(words, message):
    done = equivalents(*words)
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--match", "lora", "--to", "lorum"], "lorum"),
        (["--match", "lorum", "--to", "lora"], "lorum"),
        (["--match", "lora", "--to", "corda-kpm"], "starts from data"),
        (["--match", "lora", "--to", "full"], "full fine-tuning can be what is matched"),
        (["--match", "full", "--to", "lora", "--lr-ratio", "2"], "no factors"),
        (["--match", "lora", "--to", "pissa", "--lr", "-1"], "greater than 0"),
    ],
)
def test_methods_that_cannot_be_matched(words, message, tiny_model, monkeypatch, capsys):
    given = ["loram", "equivalents", *words, "--model", str(tiny_model), "--rank", "4"]
    monkeypatch.setattr("sys.argv", given)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
