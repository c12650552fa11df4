"""HumanEval: 164 functions to complete from their head and description.

Source: Chen et al. 2021, arXiv 2107.03374. It has a test set only: what is trained on is another
file, and what is tuned on are MBPP's validation problems (Austin et al. 2021).
"""

from pathlib import Path

from loram.tasks.errors import DataError
from loram.tasks.parting import part
from loram.tasks.programs import mbpp
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
            CodeAlpaca's) and, if the problems are not to come from the hub, `HumanEval.jsonl`
            and, for validation, `mbpp.jsonl`.

    Raises:
        DataError: nothing to train on, or a malformed row.
    """
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
    tuned_on = find(folder, ["mbpp"])
    validation = mbpp.problems("full", tuned_on)["validation"] if request.validation_size else []
    examples = as_examples(read_rows(train), str(train))
    return part(examples, problems, request, str(folder), validation=validation)


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
