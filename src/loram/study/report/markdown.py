"""A report as Markdown, as GitHub reads it."""

from pathlib import Path

from loram.study.report.document import Document, Picture, Table

__all__ = ["markdown"]


def markdown(document: Document, folder: Path) -> str:
    """Write a report out.

    Args:
        document: the report.
        folder: that the text will lie in, and that pictures are addressed from.
    """
    lines = [f"# {_text(document.title)}", ""]
    for section in document.sections:
        lines += [f"## {_text(section.title)}", ""]
        for part in section.parts:
            lines += [*_part(part, folder), ""]
    return "\n".join(lines).rstrip() + "\n"


def _part(part: str | tuple[str, ...] | Table | Picture, folder: Path) -> list[str]:
    match part:
        case str():
            return [_text(part)]
        case tuple():
            return [f"- {_text(line)}" for line in part]
        case Table():
            return _table(part)
        case Picture():
            address = part.file.relative_to(folder).as_posix()
            return [f"![{_text(part.caption)}]({address})", "", f"*{_text(part.caption)}*"]


def _table(table: Table) -> list[str]:
    rule = ("---", *("---:" for _ in table.headings[1:]))
    lines = [f"**{_text(table.caption)}**", "", _row(table.headings), _row(rule)]
    lines += [_row(row) for row in table.rows]
    for note in table.notes:
        lines += ["", _text(note)]
    return lines


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(_text(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _text(text: str) -> str:
    """Labels are the user's: what would be markup in them is not."""
    for mark in "\\*_<>`":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", " ")
