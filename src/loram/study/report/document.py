"""What a report is made of, whatever it is written as."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Document", "Picture", "Section", "Table"]


@dataclass(frozen=True, slots=True)
class Table:
    """Headings, and rows of as many cells, as they are printed.

    Attributes:
        caption: above it.
        headings: of the columns; the first column is text, the rest are numbers.
        rows: of cells.
        notes: below it.
    """

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture, and what it shows.

    Attributes:
        file: the PNG; an SVG lies beside it.
        caption: below it.
    """

    file: Path
    caption: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it, in order: text, lists, tables and pictures.

    Attributes:
        title: the heading.
        parts: a string is a paragraph, a tuple of strings a list.
    """

    title: str
    parts: tuple["str | tuple[str, ...] | Table | Picture", ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A report."""

    title: str
    sections: tuple[Section, ...]
