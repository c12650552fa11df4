"""What a language model is asked: one user, a history, and an item or several to judge."""

from typing import Literal, NamedTuple

from loram.recommend.interactions import UNKNOWN

__all__ = ["Case", "Kind", "Slot"]

Kind = Literal["user", "item", "sequence", "context"]
"""Of vectors that go into a prompt."""


class Case(NamedTuple):
    """One thing to predict.

    Attributes:
        user: code, or `UNKNOWN`.
        history: item codes, oldest first; may be empty.
        liked: of each item of the history.
        target: item code.
        label: 1 if the target is liked, or, of candidates, the one that was chosen.
        candidates: item codes with the target among them; empty for a yes or no.
        row: of the sequence and context vectors of this case.
    """

    user: int
    history: tuple[int, ...]
    liked: tuple[bool, ...]
    target: int
    label: int = 1
    candidates: tuple[int, ...] = ()
    row: int = UNKNOWN


class Slot(NamedTuple):
    """A place in a prompt where a vector goes: the row of the table of its kind."""

    kind: Kind
    row: int
