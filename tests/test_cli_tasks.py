"""`loram tasks`: the whole table, for people and for the documentation."""

from pathlib import Path

from typer.testing import CliRunner

from loram import cli
from loram.tasks.table import TASKS

DOCS = Path(__file__).parents[1] / "docs" / "tasks.md"


def printed(*words: str) -> str:
    done = CliRunner().invoke(cli.app, ["tasks", *words])
    assert done.exit_code == 0, done.output
    return done.output


def test_markdown_has_every_row_and_the_documentation_holds_it():
    text = printed("--markdown").strip()
    names = [line.split("|")[1].strip() for line in text.splitlines()[2:]]
    assert names == list(TASKS)
    assert text in DOCS.read_text(encoding="utf-8")


def test_table_has_every_name_kind_and_metric(monkeypatch):
    monkeypatch.setattr(cli.console, "width", 200)
    words = printed().split()
    for task in TASKS.values():
        assert {task.name, task.kind, task.metric} <= {*words}
