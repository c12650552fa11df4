"""What a run leaves of its scores: metrics, a line for each example, written answers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from loram.recommend.interactions import UNKNOWN
from loram.recommend.intervals import mean_interval
from loram.recommend.llm.data import Asked
from loram.recommend.llm.examples import Example, Writer
from loram.recommend.llm.judging import intervals, places
from loram.recommend.llm.recommender import Recommender
from loram.recommend.llm.settings import LLMSettings
from loram.recommend.llm.written import chosen, judge, write

__all__ = ["judged", "score_lines", "written"]


def judged(examples: Sequence[Example], scores: Tensor, resamples: int) -> dict[str, list[float]]:
    """[value, low, high] by metric."""
    found = intervals(examples, scores, resamples=resamples)
    return {name: list(each) for name, each in found.items()}


def score_lines(
    asked: Asked, examples: Sequence[Example], scores: Mapping[str, Tensor]
) -> list[dict[str, Any]]:
    """A line for each example: who, what, how much the user had met before, and its scores.

    A score that is not a number in JSON can't come: likelihoods and probabilities are finite.
    """
    data = asked.data
    before = _met_before(asked)
    lines: list[dict[str, Any]] = []
    for i, each in enumerate(examples):
        case = each.case
        line: dict[str, Any] = {
            "user": None if case.user == UNKNOWN else data.users[case.user],
            "item": None if case.target == UNKNOWN else data.items[case.target],
            "label": case.label,
            "met_before": before[i],
        }
        if case.candidates:
            line["candidates"] = [data.items[item] for item in case.candidates]
        line["scores"] = {name: found[i].tolist() for name, found in scores.items()}
        lines.append(line)
    return lines


def _met_before(asked: Asked) -> list[int]:
    """How many interactions of the user come before each test target."""
    data, rows = asked.data, asked.test.samples.row
    if data.time is None:
        return [len(case.history) for case in asked.test.cases]
    order = data.chronological()
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    user = data.user[order]
    return (place[rows] - np.searchsorted(user, data.user[rows])).tolist()


def written(
    settings: LLMSettings,
    model: Recommender,
    tokenizer: Any,
    examples: Sequence[Example],
    writer: Writer,
    bars: Callable[[str, int], Callable[[int], None]],
) -> dict[str, Any]:
    """ValidRatio, and HR@1 over all answers, of what the model writes; and the answers."""
    answers = write(
        model,
        tokenizer,
        [each.prompt(settings.is_hybrid) for each in examples],
        [each.case.row for each in examples],
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        progress=bars("written answers", len(examples)),
    )
    titles = [[writer.text.title(item) for item in each.case.candidates] for each in examples]
    right = places(examples)
    found = judge(answers, titles, right.tolist())
    user = np.asarray([each.case.user for each in examples])
    named = [chosen(answer, each) for answer, each in zip(answers, titles, strict=True)]
    hits = np.asarray([float(n == r) for n, r in zip(named, right, strict=True)])
    return {
        "valid_ratio": found.valid,
        "hr@1": list(mean_interval(hits, user, resamples=settings.resamples)),
        "denominator": "all answers",
        "answers": answers,
    }
