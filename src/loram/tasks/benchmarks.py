"""Rows of the table of tasks: answers, choices and programs, each by its benchmark's own rules."""

from functools import partial

from loram.tasks import commonsense, gsm8k, math, math_words
from loram.tasks.answers import flexible_match
from loram.tasks.commonsense_hub import HUB
from loram.tasks.math_answers import math_flexible, math_match
from loram.tasks.programs import humaneval, mbpp
from loram.tasks.task import Task

__all__ = ["BENCHMARKS"]

_FLEXIBLE = "exact_match_flexible"

_GSM8K = Task(
    name="gsm8k",
    what="grade-school word problems, by the number after ####",
    kind="answers",
    metric="exact_match",
    better="high",
    load=gsm8k.load,
    score=gsm8k.official_match,
    also={_FLEXIBLE: flexible_match},
    source=gsm8k.SOURCE,
    paper=gsm8k.PAPER,
)
_MATH = Task(
    name="math",
    what=r"competition problems, by the answer in the last \boxed",
    kind="answers",
    metric="exact_match",
    better="high",
    load=math.load,
    score=math_match,
    also={_FLEXIBLE: math_flexible},
    source=math.SOURCE,
    paper=math.PAPER,
)
_WORDS = [
    Task(
        name=f"math_word/{name.lower()}",
        what=f"{name}: word problems, by the {'first letter' if name == 'AQuA' else 'last number'}",
        kind="answers",
        metric="exact_match",
        better="high",
        load=partial(math_words.load, name),
        score=math_words.word_match,
        also={_FLEXIBLE: math_words.last_letter_match} if name == "AQuA" else {},
        paper=math_words.PAPER,
    )
    for name in math_words.SETS
]
_COMMONSENSE = [
    Task(
        name=f"commonsense/{name}",
        what="a common-sense question with options, by the likeliest one",
        kind="choices",
        metric="accuracy",
        better="high",
        load=partial(commonsense.load, name),
        source=hub.source,
        paper=commonsense.PAPER,
    )
    for name, hub in HUB.items()
]
_PROGRAMS = [
    Task(
        name="humaneval",
        what="functions to complete, by their tests; trained on code of your own",
        kind="programs",
        metric="pass@1",
        better="high",
        load=humaneval.load,
        paper=humaneval.PAPER,
    ),
    *(
        Task(
            name=name,
            what=f"short programs from a sentence, by their tests; the {config} set",
            kind="programs",
            metric="pass@1",
            better="high",
            load=partial(mbpp.load, config),
            source=mbpp.SOURCE,
            paper=mbpp.PAPER,
        )
        for name, config in (("mbpp", "full"), ("mbpp/sanitized", "sanitized"))
    ),
]

BENCHMARKS = (_GSM8K, _MATH, *_WORDS, *_COMMONSENSE, *_PROGRAMS)
"""The rows, in the order they are listed."""
