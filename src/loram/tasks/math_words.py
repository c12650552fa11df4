"""Small sets of word problems with a number, or the letter of a choice, as the answer.

AddSub, MultiArith, SingleEq, SVAMP, MAWPS and AQuA in the format of LLM-Adapters (Hu et al. 2023,
arXiv 2304.01933): `instruction`, `output` (a worked text), `answer`. One training file is shared.
Scored as by its `evaluate.py`: the last number of what is written is within 0.001 of the answer, or
the first capital A–E is the answer's.
"""

import re
from decimal import Decimal, InvalidOperation
from pathlib import Path

from loram.tasks.answers import last_number
from loram.tasks.errors import DataError
from loram.tasks.parting import part
from loram.tasks.reading import Row, find, need, read_rows
from loram.tasks.sources import as_example
from loram.tasks.task import Example, Request, Splits

__all__ = ["PAPER", "SETS", "last_letter_match", "load", "word_match"]

PAPER = "2304.01933"
SETS = ("AddSub", "MultiArith", "SingleEq", "SVAMP", "mawps", "AQuA")
_TRAIN = ("train", "math_data_train", "math_10k", "math_7k")
_NEAR = Decimal("0.001")
_LETTER = re.compile("[A-E]")
_ALONE = re.compile(r"\b[A-E]\b")


def load(name: str, request: Request) -> Splits:
    """A set's `NAME_test.jsonl`, and the training file that lies in the same folder.

    Training rows without a worked text (the published file has some) are left out.

    Args:
        name: one of `SETS`.
        request: its source is the folder.

    Raises:
        DataError: no folder is given, a file is missing, or a row is malformed.
    """
    if request.source is None or not Path(request.source).is_dir():
        raise DataError(
            f"{name}: expected --data FOLDER with {name}_test.jsonl and train.jsonl, got "
            f"{request.source!r}"
        )
    folder = Path(request.source)
    train, test = find(folder, _TRAIN), find(folder, [f"{name}_test"])
    if train is None or test is None:
        missing = f"{name}_test" if test is None else " or ".join(_TRAIN)
        raise DataError(f"{folder}: expected {missing}, as .jsonl or .json, found none")
    rows = [(n, row) for n, row in enumerate(read_rows(train), start=1) if row.get("output") != ""]
    return part(
        [as_example(row, f"{train}, row {n}") for n, row in rows],
        [_judged(row, f"{test}, row {n}") for n, row in enumerate(read_rows(test), start=1)],
        request,
        str(folder),
    )


def word_match(prediction: str, reference: str) -> bool:
    """Whether the last number, or the first letter A–E, is the reference.

    The first letter wherever it stands, as in the script: that of "Answer: C" is A.

    Args:
        prediction: what the model wrote.
        reference: a number or a letter; of a worked text, the last of its kind.
    """
    if re.fullmatch("[A-E]", reference.strip()):
        first = _LETTER.search(prediction)
        return first is not None and first[0] == reference.strip()
    got, wanted = last_number(prediction), last_number(reference)
    if got is None or wanted is None:
        return False
    try:
        return abs(Decimal(got) - Decimal(wanted)) <= _NEAR
    except InvalidOperation:
        return got == wanted


def last_letter_match(prediction: str, reference: str) -> bool:
    """Whether the last letter A–E that stands alone is the reference.

    Args:
        prediction: what the model wrote.
        reference: a letter.
    """
    letters = _ALONE.findall(prediction)
    return bool(letters) and letters[-1] == reference.strip()


def _judged(row: Row, where: str) -> Example:
    """A test row: its worked text is a model's own and may be wrong, so the answer is what counts.

    Raises:
        DataError: no instruction, or an answer that is neither number nor letter.
    """
    answer = str(need(row, "answer", (str, int, float), where)).strip()
    if not re.fullmatch("[A-E]", answer) and last_number(answer) is None:
        raise DataError(
            f"{where}: expected a number or a letter A to E in 'answer', got {answer!r}"
        )
    return Example(need(row, "instruction", str, where).strip(), answer)
