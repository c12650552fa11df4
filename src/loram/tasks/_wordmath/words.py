"""The English the templates share: people, things, and the grammar between them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # core imports Person from here
    from .core import Calc


@dataclass(frozen=True, slots=True)
class Person:
    """Someone in a story, with the pronouns to speak of them (capital ones open a sentence)."""

    name: str
    he: str
    him: str
    his: str
    He: str
    His: str

    def __str__(self) -> str:
        return self.name


def _people(women: str, men: str) -> tuple[Person, ...]:
    return (
        *(Person(name, "she", "her", "her", "She", "Her") for name in women.split()),
        *(Person(name, "he", "him", "his", "He", "His") for name in men.split()),
    )


# The two casts share nobody, so that a test problem never reuses a name seen in training.
TRAIN_PEOPLE = _people(
    "Amelia Bianca Chloe Dana Elena Fatima Grace Hannah Ivy Jasmine"
    " Keiko Lucia Maya Nadia Olivia Priya Rosa Sofia Tessa Zara",
    "Aaron Ben Caleb Diego Ethan Felix George Hassan Isaac Jamal"
    " Kenji Leo Mateo Noah Omar Pablo Ravi Samuel Theo Victor",
)
TEST_PEOPLE = _people(
    "Anika Beatriz Clara Dalia Freya Imani Layla Mei Naomi Yara",
    "Andre Bruno Dmitri Emeka Hugo Idris Julian Kofi Liam Tariq",
)

FRUITS = ("apple", "orange", "pear", "peach", "plum", "lemon")
TREASURES = ("sticker", "marble", "stamp", "trading card", "seashell", "postcard", "comic book")
BAKES = ("cookie", "muffin", "cupcake", "brownie", "scone", "pretzel")
SUPPLIES = ("notebook", "pen", "folder", "glue stick", "ruler", "highlighter", "sketchpad")
FLOWERS = ("tulip", "rose", "daisy", "sunflower", "lily", "carnation")
CRAFTS = ("scarf", "candle", "clay mug", "tote bag", "picture frame", "birdhouse")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

TIMES = {2: "twice", 3: "three times", 4: "four times", 5: "five times"}
WORDS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
FRACTIONS = (
    (1, 2, "half"),
    (1, 3, "a third"),
    (2, 3, "two thirds"),
    (1, 4, "a quarter"),
    (3, 4, "three quarters"),
    (1, 5, "a fifth"),
    (2, 5, "two fifths"),
)

_IRREGULAR = {
    "child": "children",
    "person": "people",
    "foot": "feet",
    "loaf": "loaves",
    "scarf": "scarves",
    "shelf": "shelves",
}


@cache
def plural(noun: str) -> str:
    """Return the plural of ``noun``; of a phrase like ``box of pens``, that of its first noun."""
    head, of, rest = noun.partition(" of ")
    first, space, last = head.rpartition(" ")
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif re.search(r"[^aeiou]y$", last):
        last = last[:-1] + "ies"
    else:
        last += "es" if re.search(r"(s|x|z|ch|sh)$", last) else "s"
    return first + space + last + of + rest


def qty(n: int | Calc, noun: str) -> str:
    """Count ``noun``: ``1 apple``, ``3 apples``, or the worked calculation that counts it."""
    one = n == 1 if isinstance(n, int) else n.value == 1
    return f"{n if isinstance(n, int) else n.work} {noun if one else plural(noun)}"


def a(text: str) -> str:
    """Put ``a`` or ``an`` before ``text``; none of our words opens with a u or a silent h."""
    return f"{'an' if text[0] in 'aeio' else 'a'} {text}"


def cap(text: str) -> str:
    """Open a sentence: put the first letter of ``text``, and no other, in upper case."""
    return text[:1].upper() + text[1:]


def clock(minutes: int) -> str:
    """Write the time ``minutes`` after midnight: ``3:05 p.m.``, ``noon``."""
    if minutes == 12 * 60:
        return "noon"
    hour, minute = divmod(minutes, 60)
    return f"{(hour - 1) % 12 + 1}:{minute:02d} {'p.m.' if hour >= 12 else 'a.m.'}"


def duration(minutes: int) -> str:
    """Write a length of time: ``2 hours and 15 minutes``, ``1 hour``, ``45 minutes``."""
    hours, rest = divmod(minutes, 60)
    parts = [qty(n, unit) for n, unit in ((hours, "hour"), (rest, "minute")) if n]
    return " and ".join(parts)
