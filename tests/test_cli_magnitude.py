"""`loram equivalents` and `loram figures` as a user meets them."""

import re
import sys

import pytest
from typer.testing import CliRunner

from loram import cli


@pytest.fixture
def command(monkeypatch, capfd):
    """Runs `main()` on these words; returns (exit code, standard output, standard error)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["loram", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "160")
        capfd.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        return (code, *capfd.readouterr())

    return run


def cells(out, name):
    (line,) = [line for line in out.splitlines() if line.strip().startswith(name)]
    return re.split(r"\s{2,}", line.strip())[1:]


def test_my_alpha_32_at_1e_4(command):
    code, out, _ = command("equivalents", "--alpha", 32, "--lr", "1e-4")
    assert code == 0
    assert cells(out, "s  ") == ["2", "1", "1", "1", "4"]
    assert cells(out, "alpha  ") == ["32", "16", "16", "16", "64"]
    assert cells(out, "η_B/η_A")[:2] == ["1", "2"]
    assert "max_grad_norm=0" in out


def test_rslora_at_rank_16_reads_as_lora_plus_with_ratio_4(command):
    code, out, _ = command("equivalents", "--rslora", "--rank", 16)
    assert code == 0
    assert cells(out, "s  ")[:2] == ["4", "1"]
    assert cells(out, "η_B/η_A")[1] == "4"


def test_match(command, tiny_model):
    words = ("equivalents", "--match", "lora", "--to", "pissa,loram(gain=0.1, basis=etf)")
    code, out, err = command(*words, "--model", tiny_model, "--lr", "2e-4", "--rank", 4)
    assert code == 0, err
    assert cells(out, "lora ")[:2] == ["0.0002", "1"]
    assert float(cells(out, "pissa")[0]) < 2e-4
    assert "loram(gain=0.1, basis=etf)" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--match", "lora"], "--match and --to go together"),
        (["--to", "lora"], "--match and --to go together"),
        (["--match", "lora", "--to", "lorra"], "lorra"),
        (["--match", "lora", "--to", "lora-ga"], "starts from data"),
        (["--match", "lora", "--to", "full"], "full fine-tuning"),
        (["--lr", "-1"], "> 0"),
        (["--alpha", "-2"], "> 0"),
        (["--alpha", "nan"], "> 0"),
        (["--lr", "inf"], "finite"),
        (["--lr-ratio", "0"], "> 0"),
        (["--eps", "-1"], "ε and weight decay"),
        (["--weight-decay", "inf"], "ε and weight decay"),
        (["--persistence", "1.5"], "--persistence"),
        (["--match", "lora", "--to", "pissa,"], "nothing between two commas"),
        (["--match", "full", "--to", "lora", "--lr-ratio", "2"], "no factors"),
        (["--optimizer", "lion"], "lion"),
    ],
)
def test_mistakes_are_said_without_a_traceback(command, tiny_model, words, message):
    code, out, err = command("equivalents", "--model", tiny_model, "--rank", 4, *words)
    assert code == 2
    assert "Traceback" not in out + err
    assert message in " ".join(re.sub(r"[│╭╮╰╯─]", " ", err).split())


def test_figures_without_runs(command, tmp_path):
    pytest.importorskip("matplotlib")
    code, _, err = command("figures", "growth", "--out", tmp_path)
    assert code == 2
    assert "expected folders of runs" in err
    code, _, _ = command("figures", "4", "--out", tmp_path)
    assert code == 2


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        (
            "equivalents",
            "--rank --alpha --rslora --lr --lr-ratio --optimizer --eps --weight-decay "
            "--match --to --model --steps --persistence",
        ),
        ("figures", "--out --steps --seed"),
    ],
)
def test_help_names_every_option(verb, options):
    done = CliRunner().invoke(cli.app, [verb, "--help"], env={"COLUMNS": "80"})
    assert done.exit_code == 0
    for option in options.split():
        assert option in done.output.split(), option
