"""MBPP: short programs from a sentence and three tests.

Source: Austin et al. 2021, "Program Synthesis with Large Language Models", arXiv 2108.07732. Its
own splits, by task_id: 1–10 prompts (not used), 11–510 test, 511–600 validation, 601–974 train.
The sanitised set is a checked subset with the same numbers.
"""

from pathlib import Path

from loram.tasks.errors import DataError
from loram.tasks.parting import part
from loram.tasks.reading import Row, find, need, read_hub, read_rows
from loram.tasks.task import Program, Request, Splits

__all__ = ["PAPER", "SOURCE", "load", "problems", "program"]

PAPER = "2108.07732"
SOURCE = "google-research-datasets/mbpp"
_FILES = {"full": ("mbpp",), "sanitized": ("sanitized-mbpp", "mbpp-sanitized")}
_SPLITS = {"test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}
_ON_THE_HUB = ("test", "validation", "train")


def load(config: str, request: Request) -> Splits:
    """MBPP's own splits.

    Args:
        config: `full` or `sanitized`.
        request: its source, if any, is the file, or a folder with it.

    Raises:
        DataError: nothing there, or a malformed row.
    """
    file = None if request.source is None else _file(config, Path(request.source))
    splits = problems(config, file)
    where = str(file or SOURCE)
    return part(splits["train"], splits["test"], request, where, validation=splits["validation"])


def problems(config: str, file: Path | None) -> dict[str, list[Program]]:
    """All of `train`, `validation` and `test`, from a file or else the hub.

    Raises:
        DataError: a malformed row.
    """
    if file is None:
        rows = [row for split in _ON_THE_HUB for row in read_hub(SOURCE, config, split)]
    else:
        rows = read_rows(file)
    splits: dict[str, list[Program]] = {name: [] for name in _SPLITS}
    for number, row in enumerate(rows, start=1):
        place = f"{file or SOURCE}, row {number}"
        task = need(row, "task_id", int, place)
        name = next((name for name, numbers in _SPLITS.items() if task in numbers), None)
        if name is not None:
            splits[name].append(program(row, place))
    return splits


def _file(config: str, path: Path) -> Path:
    file = path if path.is_file() else find(path, _FILES[config])
    if file is None:
        raise DataError(f"{path}: expected {_FILES[config][0]}.jsonl, found none")
    return file


def program(row: Row, where: str) -> Program:
    """A row of either set; its tests are part of the question, as in the paper.

    Raises:
        DataError: a field is missing.
    """
    text = need(row, "prompt" if "prompt" in row else "text", str, where)
    tests = need(row, "test_list", list, where)
    if not tests:
        raise DataError(f"{where}: expected tests in 'test_list', got none")
    before = row.get("test_setup_code") or "\n".join(row.get("test_imports") or ())
    asked = "\n".join(tests)
    question = f"{text.strip()}\nYour code should pass these tests:\n\n{asked}\n"
    answer = need(row, "code", str, where).replace("\r\n", "\n")
    return Program(question, answer, f"{before}\n{asked}".strip(), None)
