"""Questions and answers as a task: `loram.tasks.sources` in three splits."""

from loram.tasks import wordmath
from loram.tasks.answers import exact_match
from loram.tasks.errors import DataError
from loram.tasks.sources import WORDMATH, Example, load
from loram.tasks.task import Request, Splits, Task

__all__ = ["ANSWERS", "load_pairs"]

_HELD_OUT = 128


def load_pairs(request: Request) -> Splits:
    """Splits of `wordmath`, a JSONL file or folder, or a data set on the hub.

    Validation is wordmath's own, or the end of the shuffled training examples, whatever their
    number: the beginning is trained on.

    Raises:
        DataError: nothing there, a malformed row, or too few rows.
    """
    source = request.source or WORDMATH
    of_wordmath = source == WORDMATH
    size = request.train_size
    data = load(
        source,
        # Beyond what is trained on, so that validation does not depend on it.
        train_size=size if of_wordmath or request.validation_size == 0 else None,
        held_out_size=_HELD_OUT if request.test_size is None else request.test_size,
        seed=request.seed,
        config=request.config,
    )
    if request.validation_size == 0:
        return Splits(data.train, (), data.held_out)
    if of_wordmath:
        made = wordmath.generate("validation", request.validation_size, seed=request.seed)
        validation = [Example(each.question, each.answer) for each in made]
        return Splits(data.train, validation, data.held_out)
    validation = data.train[-request.validation_size :]
    tuned = {each.question for each in validation}
    rest = data.train[: -request.validation_size]
    train = [each for each in rest if each.question not in tuned]
    wanted = len(train) if size is None else size
    if len(train) < max(wanted, 1):
        raise DataError(
            f"{source}: expected {max(wanted, 1)} training and {request.validation_size} "
            f"validation examples, got {len(data.train)} together: ask for fewer (--train-size, "
            "--validation-size)"
        )
    return Splits(train[:wanted], validation, data.held_out)


ANSWERS = Task(
    name="answers",
    what="questions and worked answers of your own, or wordmath",
    kind="answers",
    metric="loss",
    better="low",
    load=load_pairs,
    score=exact_match,
    source=WORDMATH,
)
"""A row of the table of tasks."""
