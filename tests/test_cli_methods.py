"""`loram methods`: the whole table, for people and for the documentation."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from loram import cli
from loram.methods import METHODS

DOCS = Path(__file__).parents[1] / "docs" / "methods.md"


@pytest.fixture
def printed(monkeypatch):
    def run(*words: str) -> str:
        monkeypatch.setattr(cli.console, "width", 160)
        done = CliRunner().invoke(cli.app, ["methods", *words])
        assert done.exit_code == 0, done.output
        return done.output

    return run


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| \n").split("|")]


def test_markdown_has_every_row_and_field(printed):
    heading, rule, *lines = map(cells, printed("--markdown").strip().splitlines())
    assert len(heading) == len(rule) == 8
    assert set(rule) == {"---"}
    assert [line[0] for line in lines] == list(METHODS)
    for line in lines:
        row = METHODS[line[0]]
        assert line[1] == row.what
        assert line[2:] == [
            *(row.by, row.scaling, row.optimizer, row.data or "-", row.base, row.paper)
        ]


def test_documentation_holds_the_table_of_the_command(printed):
    assert printed("--markdown").strip() in DOCS.read_text(encoding="utf-8")


def test_table_has_every_name_and_paper_whole(capsys, monkeypatch):
    monkeypatch.setattr(cli.console, "width", 160)
    cli.methods()
    words = capsys.readouterr().out.split()
    for row in METHODS.values():
        assert row.name in words
        assert row.paper in words
