"""The verb `compare`, and what it shows."""

import pytest
from rich.console import Console
from study_fakes import Inline, Unwatched, plan, spec
from typer.testing import CliRunner

from loram.cli import app
from loram.study import compare as verb
from loram.study.errors import StudyError
from loram.study.live import View, table
from loram.study.runner import study
from loram.study.spec import dump


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(dump(spec()))
    return file


def invoke(*words):
    return CliRunner().invoke(app, ["compare", *map(str, words)])


def test_a_dry_run_prints_the_plan_and_writes_nothing(file, tmp_path):
    out = tmp_path / "out"
    result = invoke(file, "--out", out, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "8 runs, 0 of them done" in result.output
    assert "No estimate of time" in result.output
    assert not out.exists()


def test_problems_come_before_any_work(file, tmp_path):
    file.write_text(dump(spec(methods=["lorax", "pisa"])))
    out = tmp_path / "out"
    result = invoke(file, "--out", out)
    assert isinstance(result.exception, StudyError)
    assert "lorax" in str(result.exception)
    assert "pisa" in str(result.exception)
    assert not out.exists()


def test_a_study_prints_its_runs_and_its_end(file, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setitem(verb.ENGINES, "local", lambda out, spec: Inline(out))
    result = invoke(file, "--out", out)
    assert result.exit_code == 0, result.output
    assert "answers lora r=4 lr=1.00e-04 seed=0: loss 1.0000 (0.0 s)" in result.output
    assert "best lr" in result.output
    assert invoke(file, "--out", out, "--dry-run").output.count("10 of them done") == 1
    limited = invoke(file, "--out", tmp_path / "other", "--limit-hours", 0)
    assert "time limit: 6 runs are left" in limited.output


def test_an_interrupted_study_says_how_it_goes_on(file, tmp_path, monkeypatch):
    def interrupted(job, folder):
        raise KeyboardInterrupt

    monkeypatch.setitem(verb.ENGINES, "local", lambda out, spec: Inline(out, interrupted))
    assert invoke(file, "--out", tmp_path / "out").exit_code == 130


def test_the_live_table_shows_progress_best_and_time_left(tmp_path):
    with open(tmp_path / "screen", "w+") as screen:
        console = Console(file=screen, force_terminal=True, width=120)
        with View(console, workers=1) as view:
            watch = Unwatched()
            done = study(plan(), tmp_path / "out", lambda: Inline(tmp_path / "out"), watch=watch)
            for job, record in watch.seen:
                view.ran(job, record)
            view.show(done.board, [watch.seen[0][0]])
        screen.seek(0)
        text = screen.read()
    assert "10 of 10 runs, about 0 s left" in text
    assert "1.00e-03" in text
    assert len(table(done.board.rows()).rows) == 2
