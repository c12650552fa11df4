"""Train, validation and test of one benchmark, never mixed, and the same for every seed of a study.

Which examples are validated on and trained on is drawn with a constant; the run's seed decides only
in which order they are trained on.
"""

import random
from collections.abc import Sequence
from typing import Any

from loram.tasks.sources import DataError
from loram.tasks.task import Request, Splits

__all__ = ["part"]

_DRAW = "loram"


def part(
    train: Sequence[Any],
    test: Sequence[Any],
    request: Request,
    where: str,
    *,
    validation: Sequence[Any] | None = None,
) -> Splits:
    """Draw what a run asks for.

    Args:
        train: examples with a `question`; those whose question is in test or validation are left
            out.
        test: kept in their order; where fewer are asked for, a constant draw.
        request: sizes and seed.
        where: the source, for errors.
        validation: the benchmark's own; drawn from train if None.

    Raises:
        DataError: fewer than are asked for.
    """
    test = _first(list(test), request.test_size)
    judged = {example.question for example in test}
    pool = [example for example in train if example.question not in judged]
    if validation is None:
        random.Random(_DRAW).shuffle(pool)
        validation = pool[: request.validation_size]
        pool = pool[request.validation_size :]
    else:
        validation = _first(list(validation), request.validation_size)
    judged = {example.question for example in validation}
    pool = [example for example in pool if example.question not in judged]
    wanted = len(pool) if request.train_size is None else request.train_size
    if request.train_size is not None:
        pool = _first(pool, request.train_size)
    asked = max(wanted, 1), request.validation_size, request.test_size or 1
    got = len(pool), len(validation), len(test)
    if any(have < want for have, want in zip(got, asked, strict=True)):
        raise DataError(
            f"{where}: expected {asked[0]} training, {asked[1]} validation and {asked[2]} test "
            f"examples, got {got[0]}, {got[1]} and {got[2]}: ask for fewer"
        )
    random.Random(request.seed).shuffle(pool)
    return Splits(pool, validation, test)


def _first(examples: list[Any], size: int | None) -> list[Any]:
    """A constant draw of `size`, a larger one continuing a smaller; all, in their order, if None."""
    if size is None or size >= len(examples):
        return examples
    drawn = examples.copy()
    random.Random(_DRAW).shuffle(drawn)
    return drawn[:size]
