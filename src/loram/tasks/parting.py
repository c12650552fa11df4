"""Train, validation and test of one benchmark, never mixed.

What is trained on and validated on is drawn by `Request.seed`, which is the data's and not the
run's: all seeds of a study have the same examples.
"""

import random
from collections.abc import Sequence
from typing import Any

from loram.tasks.errors import DataError
from loram.tasks.task import Request, Splits

__all__ = ["part"]


def part(
    train: Sequence[Any],
    test: Sequence[Any],
    request: Request,
    where: str,
    *,
    validation: Sequence[Any] | None = None,
) -> Splits:
    """Draw what a run asks for; a larger draw continues a smaller one.

    Args:
        train: examples with a `question`; those whose question is in test or validation are left
            out.
        test: all, in their order, or as many as are asked for, drawn.
        request: sizes and seed.
        where: the source, for errors.
        validation: the benchmark's own; drawn from train if None.

    Raises:
        DataError: fewer than are asked for.
    """
    asked = list(test) if request.test_size is None else _drawn(test, request)[: request.test_size]
    judged = {example.question for example in test}
    pool = _drawn([example for example in train if example.question not in judged], request)
    if validation is None:
        own, pool = pool[: request.validation_size], pool[request.validation_size :]
    else:
        own = _drawn(validation, request)[: request.validation_size]
    tuned = {example.question for example in (own if validation is None else validation)}
    pool = [example for example in pool if example.question not in tuned]
    size = len(pool) if request.train_size is None else request.train_size
    wanted = max(size, 1), request.validation_size, request.test_size or 1
    got = len(pool), len(own), len(asked)
    if any(have < want for have, want in zip(got, wanted, strict=True)):
        raise DataError(
            f"{where}: expected {wanted[0]} training, {wanted[1]} validation and {wanted[2]} test "
            f"examples, got {got[0]}, {got[1]} and {got[2]}: ask for fewer (--train-size, "
            "--validation-size, --held-out-size)"
        )
    return Splits(pool[:size], own, asked)


def _drawn(examples: Sequence[Any], request: Request) -> list[Any]:
    drawn = list(examples)
    random.Random(f"loram {request.seed}").shuffle(drawn)
    return drawn
