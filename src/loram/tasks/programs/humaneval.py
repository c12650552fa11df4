"""HumanEval: 164 functions to complete from their head and description.

Source: Chen et al. 2021, arXiv 2107.03374. It has a test set only: what is trained on is another
file, and there is no validation (tune on MBPP's).
"""

from pathlib import Path

from loram.tasks.errors import DataError
from loram.tasks.parting import part
from loram.tasks.reading import Row, as_examples, find, need, read_hub, read_rows
from loram.tasks.task import Program, Request, Splits

__all__ = ["PAPER", "SOURCE", "load", "program"]

PAPER = "2107.03374"
SOURCE = "openai/openai_humaneval"
_NAMES = ("HumanEval", "humaneval", "test")


def load(request: Request) -> Splits:
    """The problems as test, and code instructions to train on.

    Args:
        request: its source is a folder with `train.jsonl` (questions and answers, such as
            CodeAlpaca's) and, if the problems are not to come from the hub, `HumanEval.jsonl`.

    Raises:
        DataError: nothing to train on, a malformed row, or validation is asked for.
    """
    if request.validation_size:
        raise DataError(
            "humaneval has no validation set: expected validation_size 0, got "
            f"{request.validation_size}; tune on the task mbpp, which has one"
        )
    folder = Path(request.source or "")
    train = find(folder, ["train"]) if request.source else None
    if train is None:
        raise DataError(
            "humaneval has no training set: expected --data FOLDER with train.jsonl (questions and "
            f"answers, such as CodeAlpaca's), got {request.source!r}"
        )
    file = find(folder, _NAMES)
    rows = read_rows(file) if file else read_hub(SOURCE, request.config, "test")
    where = str(file or SOURCE)
    problems = [program(row, f"{where}, row {n}") for n, row in enumerate(rows, start=1)]
    return part(as_examples(read_rows(train), str(train)), problems, request, str(folder))


def program(row: Row, where: str) -> Program:
    """A row of HumanEval.

    Raises:
        DataError: a field is missing.
    """
    entry = need(row, "entry_point", str, where)
    return Program(
        need(row, "prompt", str, where),
        need(row, "canonical_solution", str, where),
        f"{need(row, 'test', str, where)}\ncheck({entry})",
        entry,
    )
