"""Prompts: a template's text and named slots become token ids with slots among them.

{liked} {disliked} {history} {candidates}   items in a list, each written by the item template
{target}                                    an item
{user_slot} {target_slot} {sequence_slot} {context_slot}   vectors
{title} {slot}                              in an item template: the title, the item's vector
"""

import logging
from collections.abc import Sequence
from string import Formatter
from typing import Any, NamedTuple

from loram.recommend.errors import RecommendError
from loram.recommend.llm.case import Case, Slot

__all__ = ["PromptError", "Prompter", "Template", "Tokens"]

logger = logging.getLogger(__name__)

Piece = str | Slot
Tokens = tuple[int | Slot, ...]
"""Token ids, and slots where a vector takes a token's place."""

_LISTS = ("liked", "disliked", "history", "candidates")
_SLOTS = ("user_slot", "target_slot", "sequence_slot", "context_slot")
_PROMPT_FIELDS = (*_LISTS, "target", *_SLOTS)
_ITEM_FIELDS = ("title", "slot")


class PromptError(RecommendError):
    """A template or a prompt can't be used; the message says what was expected and what to do."""


class Template(NamedTuple):
    """How a case is written.

    Attributes:
        text: of the whole prompt, with the fields of the module's docstring.
        item: of an item in a list, or as the target.
        candidate: of an item among the candidates.
        separator: between items.
        nothing: in the place of an empty list.
        untitled: in the place of a missing title.
    """

    text: str
    item: str = '"{title}"'
    candidate: str = '"{title}"'
    separator: str = ", "
    nothing: str = "None"
    untitled: str = "an unknown title"

    def check(self) -> None:
        """Every field is known.

        Raises:
            PromptError: one that is not, or braces that do not match.
        """
        _parse(self.text, _PROMPT_FIELDS)
        _parse(self.item, _ITEM_FIELDS)
        _parse(self.candidate, _ITEM_FIELDS)

    def kinds(self) -> set[str]:
        """Kinds of vectors that a prompt may ask for."""
        fields = {name for _, name in _parse(self.text, _PROMPT_FIELDS) if name}
        found = {name.removesuffix("_slot") for name in fields if name in _SLOTS}
        found = {"item" if kind == "target" else kind for kind in found}
        written = self.candidate if "candidates" in fields else ""
        written += self.item if fields & {"liked", "disliked", "history", "target"} else ""
        return found | ({"item"} if "{slot}" in written else set())


class Prompter:
    """Writes cases as tokens, and drops the oldest history where a prompt would not fit."""

    def __init__(
        self, tokenizer: Any, template: Template, titles: Sequence[str | None], max_length: int
    ) -> None:
        """Check the template.

        Args:
            tokenizer: of the model.
            template: as settings have it.
            titles: by item code; None or blank where it is missing.
            max_length: tokens of a prompt at most.
        """
        template.check()
        self._tokenizer, self._template, self._titles = tokenizer, template, titles
        self._parsed = _parse(template.text, _PROMPT_FIELDS)
        self._max_length = max_length
        # A model that was pretrained with a beginning token gets it here too.
        first = tokenizer("").input_ids[:1]
        self._start: Tokens = tuple(first) if first == [tokenizer.bos_token_id] else ()
        self.truncated = 0

    def title(self, item: int) -> str:
        """As the template writes it."""
        known = self._titles[item] if 0 <= item < len(self._titles) else None
        return known if known and known.strip() else self._template.untitled

    def __call__(self, case: Case) -> Tokens:
        """The prompt of a case.

        A prompt longer than `max_length` loses its oldest history, as much as is needed; the first
        time that is said.

        Raises:
            PromptError: it does not fit without any history either.
        """
        whole = self._tokens(case, len(case.history))
        if len(whole) <= self._max_length:
            return whole
        fits, too_long = -1, len(case.history)  # the most items that fit: between these
        shortest = self._tokens(case, 0)
        if len(shortest) <= self._max_length:
            fits, found = 0, shortest
            while too_long - fits > 1:
                middle = (fits + too_long) // 2
                tokens = self._tokens(case, middle)
                if len(tokens) <= self._max_length:
                    fits, found = middle, tokens
                else:
                    too_long = middle
            self._say(case, len(whole), fits)
            return found
        raise PromptError(
            f"a prompt has {len(shortest)} tokens without any history and {self._max_length} fit, "
            "by max_length and the model's window less its answer: raise max_length, use a model "
            "of a longer window, or ask with fewer candidates"
        )

    def _say(self, case: Case, length: int, kept: int) -> None:
        self.truncated += 1
        if self.truncated == 1:
            logger.warning(
                "a prompt of %d tokens is longer than the %d that fit: its oldest %d of %d items "
                "were dropped (later prompts too; said once)",
                *(length, self._max_length, len(case.history) - kept, len(case.history)),
            )

    def _tokens(self, case: Case, kept: int) -> Tokens:
        """With the latest `kept` items of the history."""
        tokens: list[int | Slot] = [*self._start]
        for piece in _joined(self._pieces(case, kept)):
            if isinstance(piece, Slot):
                tokens.append(piece)
            else:
                tokens += self._tokenizer(piece, add_special_tokens=False).input_ids
        return tuple(tokens)

    def _pieces(self, case: Case, kept: int) -> list[Piece]:
        first = len(case.history) - kept
        history, liked = case.history[first:], case.liked[first:]
        rated = list(zip(history, liked, strict=True))
        lists = {
            "history": history,
            "liked": [item for item, yes in rated if yes],
            "disliked": [item for item, yes in rated if not yes],
            "candidates": case.candidates,
        }
        slots = {
            "user_slot": Slot("user", case.user),
            "target_slot": Slot("item", case.target),
            "sequence_slot": Slot("sequence", case.row),
            "context_slot": Slot("context", case.row),
        }
        pieces: list[Piece] = []
        for text, name in self._parsed:
            pieces.append(text)
            if name in lists:
                pieces += self._listed(lists[name], name == "candidates")
            elif name == "target":
                pieces += self._item(case.target, self._template.item)
            elif name is not None:
                pieces.append(slots[name])
        return pieces

    def _listed(self, items: Sequence[int], candidates: bool) -> list[Piece]:
        template = self._template.candidate if candidates else self._template.item
        pieces: list[Piece] = [] if items else [self._template.nothing]
        for i, item in enumerate(items):
            pieces += [self._template.separator] if i else []
            pieces += self._item(item, template)
        return pieces

    def _item(self, item: int, template: str) -> list[Piece]:
        pieces: list[Piece] = []
        for text, name in _parse(template, _ITEM_FIELDS):
            pieces.append(text)
            if name is not None:
                pieces.append(self.title(item) if name == "title" else Slot("item", item))
        return pieces


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Neighbouring texts as one: where a text is cut decides its tokens."""
    joined: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and joined and isinstance(joined[-1], str):
            joined[-1] += piece
        elif piece != "":
            joined.append(piece)
    return joined


def _parse(template: str, known: Sequence[str]) -> list[tuple[str, str | None]]:
    """(text, the field after it) of a template.

    Raises:
        PromptError: a field that is not known, or braces that do not match.
    """
    try:
        parts = [(text, name) for text, name, _, _ in Formatter().parse(template)]
    except ValueError as error:
        raise PromptError(f"template {template!r}: {error}; write {{{{ for a brace") from error
    unknown = sorted({name for _, name in parts if name is not None and name not in known})
    if unknown:
        raise PromptError(
            f"template {template!r}: unknown field {', '.join(map(repr, unknown))}; expected "
            f"{', '.join(known)}"
        )
    return parts
