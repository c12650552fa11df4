"""Images with a question each and its answer, for models that read images and write text.

A JSONL line is `{"image": "cats/1.png", "question": "What is this?", "answer": "A cat."}`, the path
relative to its file; `text` or `caption` alone stands for an answer to `What is in this image?`. On
the hub the column `image` holds decoded images.
"""

import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from loram.tasks.rows import hub_splits, read_rows
from loram.tasks.sources import DataError
from loram.tasks.task import Pictured, Request, Splits, Task

__all__ = ["PICTURES", "load_pictures"]

_ASKED = "What is in this image?"
_PAIRS = (("question", "answer"), ("prompt", "completion"), ("instruction", "output"))
_ALONE = ("caption", "text", "answer")
_HELD_OUT_NAMES = ("test", "validation", "valid", "dev", "heldout", "eval")
_HELD_OUT = 128


def load_pictures(request: Request) -> Splits:
    """Splits of a JSONL file or folder, or of a data set on the hub.

    Of one file, or of a data set with only a train split, test examples are drawn first; validation
    is drawn from train. No image is in two splits.

    Raises:
        DataError: nothing there, a malformed row, an image that is not there, or too few rows.
    """
    if request.source is None:
        raise DataError(
            "the task images has no data of its own: name a JSONL file, a folder with train.jsonl "
            "and test.jsonl, or a hub id (--data)"
        )
    train, test = _read(request.source, request.config)
    rng = random.Random(request.seed)
    train.sort(key=_identity)
    rng.shuffle(train)
    size = _HELD_OUT if request.test_size is None else request.test_size
    if test is None:
        train, test = _split(train, size)
    else:
        test.sort(key=_identity)
        rng.shuffle(test)
        if request.test_size is None:
            size = len(test)
        test = test[:size]
    train = _without(train, test)
    train, validation = _split(train, request.validation_size)
    wanted = len(train) if request.train_size is None else request.train_size
    short = len(validation) < request.validation_size or len(test) < size
    if len(train) < max(wanted, 1) or short:
        raise DataError(
            f"{request.source}: expected {max(wanted, 1)} training, {request.validation_size} "
            f"validation and {size} test examples with images of their own, got {len(train)}, "
            f"{len(validation)} and {len(test)}: ask for fewer (--train-size, --validation-size, "
            "--held-out-size)"
        )
    return Splits(train[:wanted], validation, test)


def _split(rows: list[Pictured], size: int) -> tuple[list[Pictured], list[Pictured]]:
    """All but the last `size`, and these; the first lose the images that are among these."""
    if size == 0:
        return rows, []
    kept = rows[-size:]
    return _without(rows[:-size], kept), kept


def _without(rows: list[Pictured], judged: list[Pictured]) -> list[Pictured]:
    seen = {_key(row) for row in judged}
    return [row for row in rows if _key(row) not in seen]


def _key(row: Pictured) -> object:
    return row.image if isinstance(row.image, str) else id(row.image)


def _identity(row: Pictured) -> tuple[str, str, str]:
    """An order that does not depend on that of the files' lines; of the hub, on its rows."""
    return (row.where if not isinstance(row.image, str) else row.image, row.question, row.answer)


def _read(source: str, config: str | None) -> tuple[list[Pictured], list[Pictured] | None]:
    path = Path(source)
    if path.is_file():
        return list(_of_file(path)), None
    if path.is_dir():
        files = {file.stem: file for file in sorted(path.glob("*.jsonl"))}
        if "train" not in files:
            raise DataError(
                f"{path}: expected train.jsonl (and test.jsonl or validation.jsonl), found "
                f"{sorted(files) or 'no .jsonl file'}"
            )
        held_out = next((files[name] for name in _HELD_OUT_NAMES if name in files), None)
        return list(_of_file(files["train"])), list(_of_file(held_out)) if held_out else None
    splits = hub_splits(source, config)
    if "train" not in splits:
        raise DataError(f"{source}: expected a train split, got {sorted(splits)}")
    name = next((name for name in _HELD_OUT_NAMES if name in splits), None)
    held_out = None if name is None else list(_of_hub(splits[name], source))
    return list(_of_hub(splits["train"], source)), held_out


def _of_file(file: Path) -> Iterator[Pictured]:
    for where, row in read_rows(file):
        image, question, answer = _fields(row, where)
        if not isinstance(image, str):
            raise DataError(f"{where}: expected the path of one image in 'image', got {image!r}")
        path = (file.parent / image).resolve()
        if not path.is_file():
            raise DataError(f"{where}: there is no image {path}")
        yield Pictured(str(path), question, answer, where)


def _of_hub(rows: Iterable[Any], source: str) -> Iterator[Pictured]:
    for number, row in enumerate(rows, start=1):
        where = f"{source}, row {number}"
        yield Pictured(*_fields(row, where), where)


def _fields(row: Any, where: str) -> tuple[Any, str, str]:
    keys = sorted(map(str, row)) if isinstance(row, Mapping) else []
    pair = next((pair for pair in _PAIRS if pair[0] in keys and pair[1] in keys), None)
    alone = next((name for name in _ALONE if name in keys), None)
    if "image" not in keys or (pair is None and alone is None):
        raise DataError(
            f"{where}: expected an object with image, and question and answer, or caption; got "
            f"{keys or type(row).__name__}"
        )
    question, answer = (_ASKED, row[alone]) if pair is None else (row[pair[0]], row[pair[1]])
    if not isinstance(question, str) or not isinstance(answer, str) or not answer.strip():
        raise DataError(f"{where}: expected text to ask and to learn, got {question!r}, {answer!r}")
    return row["image"], question, answer


PICTURES = Task(
    name="images",
    what="images with questions and answers, or captions, of your own",
    kind="images",
    metric="loss",
    better="low",
    load=load_pictures,
)
"""A row of the table of tasks."""
