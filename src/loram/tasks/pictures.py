"""Images with a question each and its answer, for models that read images and write text.

A JSONL line is `{"image": "cats/1.png", "question": "What is this?", "answer": "A cat."}`, the path
relative to its file; several images are a list (`images`). `text` or `caption` alone stands for an
answer to `What is in this image?`. On the hub the column holds decoded images.
"""

import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from loram.tasks.errors import DataError
from loram.tasks.rows import Located, own_splits
from loram.tasks.task import Pictured, Request, Splits, Task

__all__ = ["PICTURES", "load_pictures"]

_IMAGES = ("image", "images")
_ASKED = "What is in this image?"
_PAIRS = (("question", "answer"), ("prompt", "completion"), ("instruction", "output"))
_ALONE = ("caption", "text", "answer")
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
    path = Path(request.source)
    folder = None if not path.exists() else path if path.is_dir() else path.parent
    of_train, of_test = own_splits(request.source, request.config)
    train = list(_pictured(of_train, folder))
    test = None if of_test is None else list(_pictured(of_test, folder))
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
    seen = {key for row in judged for key in _keys(row)}
    return [row for row in rows if seen.isdisjoint(_keys(row))]


def _keys(row: Pictured) -> set[object]:
    return {image if isinstance(image, str) else id(image) for image in row.images}


def _identity(row: Pictured) -> tuple[str, str, str]:
    """An order that does not depend on that of the files' lines; of the hub, on its rows."""
    paths = [image for image in row.images if isinstance(image, str)]
    return ("\n".join(paths) or row.where, row.question, row.answer)


def _pictured(rows: Iterable[Located], folder: Path | None) -> Iterator[Pictured]:
    """Rows of files in `folder` name their images; those of the hub hold them."""
    for where, row in rows:
        images, question, answer = _fields(row, where)
        if folder is not None:
            images = tuple(_found(image, folder, where) for image in images)
        yield Pictured(images, question, answer, where)


def _found(image: Any, folder: Path, where: str) -> str:
    if not isinstance(image, str):
        raise DataError(f"{where}: expected the path of an image, got {image!r}")
    path = (folder / image).resolve()
    if not path.is_file():
        raise DataError(f"{where}: there is no image {path}")
    return str(path)


def _fields(row: Any, where: str) -> tuple[tuple[Any, ...], str, str]:
    keys = sorted(map(str, row)) if isinstance(row, Mapping) else []
    pair = next((pair for pair in _PAIRS if pair[0] in keys and pair[1] in keys), None)
    alone = next((name for name in _ALONE if name in keys), None)
    column = next((name for name in _IMAGES if name in keys), None)
    if column is None or (pair is None and alone is None):
        raise DataError(
            f"{where}: expected an object with image, and question and answer, or caption; got "
            f"{keys or type(row).__name__}"
        )
    question, answer = (_ASKED, row[alone]) if pair is None else (row[pair[0]], row[pair[1]])
    if not isinstance(question, str) or not isinstance(answer, str) or not answer.strip():
        raise DataError(f"{where}: expected text to ask and to learn, got {question!r}, {answer!r}")
    images = row[column] if isinstance(row[column], list | tuple) else [row[column]]
    if not images:
        raise DataError(f"{where}: expected an image, or several, in {column!r}, got none")
    return tuple(images), question, answer


PICTURES = Task(
    name="images",
    what="images with questions and answers, or captions, of your own",
    kind="images",
    metric="loss",
    better="low",
    load=load_pictures,
)
"""A row of the table of tasks."""
