"""Grade-school word problems with worked answers, written on the spot: no download needed.

Questions and answers look like those of GSM8K (Cobbe et al. 2021, "Training Verifiers to Solve
Math Word Problems", arXiv 2110.14168): a question of a few sentences, an answer of worked lines
whose calculations carry calculator annotations, and a last line ``#### n`` with the result::

    A taxi ride costs $4 plus $2.50 for every mile. [...]

    The miles cost 8 * 2.50 = $<<8*2.50=20>>20.
    [...]
    #### 9

Results are whole numbers, and every annotation is computed exactly from the expression it shows.

What is held apart: the test split has templates and names of its own. Validation shares both with
train, but a question belongs to one of the two by its hash, so that no seed and no size can ever
bring a question of one split into the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import get_args

from ._wordmath.core import Draw, Split, Template, Theme
from ._wordmath.table import TABLE
from ._wordmath.words import TEST_PEOPLE, TRAIN_PEOPLE

__all__ = ["TEMPLATES", "Problem", "Split", "Template", "Theme", "generate"]

TEMPLATES: Mapping[str, Template] = MappingProxyType({each.name: each for each in TABLE})
"""Every template by its name."""

_VALIDATION_SHARE = 8  # one question in so many is kept for validation
_TRIES = 1000  # draws without a new question before a template counts as used up


@dataclass(frozen=True, slots=True)
class Problem:
    """A word problem, its worked answer, and the name of the template that wrote it."""

    question: str
    answer: str
    template: str


def generate(split: Split, size: int, *, seed: int = 0) -> list[Problem]:
    """Write ``size`` different problems of ``split``.

    The same arguments give the same problems on every platform, and a larger ``size`` continues
    the list of a smaller one. Every template of the split writes equally many, give or take one.

    Raises:
        ValueError: if ``split`` is unknown, if ``size`` is negative, or if it is more than the
            templates can fill with different questions.
    """
    if split not in get_args(Split):
        names = ", ".join(repr(name) for name in get_args(Split))
        raise ValueError(f"expected split to be one of {names}, got {split!r}")
    if size < 0:
        raise ValueError(f"expected a size of 0 or more, got {size}")
    side, people = ("test", TEST_PEOPLE) if split == "test" else ("train", TRAIN_PEOPLE)
    templates = [each for each in TABLE if each.split == side]
    # A stream for each template: adding one leaves what the others write as it was.
    draws = {each.name: Draw(f"{seed}/{split}/{each.name}", people) for each in templates}
    seen: set[str] = set()
    problems: list[Problem] = []
    for template in _rounds(templates, Draw(f"{seed}/{split}")):
        if len(problems) >= size:
            break
        problem = _write(template, split, draws[template.name], seen)
        if problem is None:
            raise ValueError(
                f"expected a size that the {split} templates can fill with different questions, "
                f"got {size}: template {template.name!r} found nothing new after {len(problems)} "
                f"problems; ask for at most {len(problems)}, or add templates"
            )
        problems.append(problem)
    return problems


def _rounds(templates: list[Template], draw: Draw) -> Iterator[Template]:
    """Yield every template once in each round, every round in an order of its own."""
    while True:
        yield from draw.sample(templates, len(templates))


def _write(template: Template, split: Split, draw: Draw, seen: set[str]) -> Problem | None:
    """Write a problem of ``split`` whose question is not in ``seen`` yet, and put it there."""
    for _ in range(_TRIES):
        question, lines, result = template.write(draw)
        if question not in seen and _belongs(question, split):
            seen.add(question)
            return Problem(question, "\n".join([*lines, f"#### {result}"]), template.name)
    return None


def _belongs(question: str, split: Split) -> bool:
    if split == "test":
        return True
    validation = hashlib.sha256(question.encode()).digest()[0] % _VALIDATION_SHARE == 0
    return validation == (split == "validation")
