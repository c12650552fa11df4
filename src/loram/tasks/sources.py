"""Questions and answers to fine-tune on: made here (`wordmath`), from JSONL files, or from the hub.

>>> load("wordmath", train_size=320, held_out_size=64, seed=0)
>>> load("data/gsm8k", train_size=None, held_out_size=128, seed=0)   # a folder with train, test
>>> load("openai/gsm8k", ...)                                        # pip install 'loram[hub]'
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from loram.tasks import wordmath
from loram.tasks.errors import DataError
from loram.tasks.rows import Located, own_splits
from loram.tasks.task import Example

__all__ = ["WORDMATH", "Data", "DataError", "Example", "as_example", "load"]

WORDMATH = "wordmath"
"""Names the problems that are made here; a folder of that name is not read."""

# Question and answer fields that are understood, in this order.
_FIELDS = (
    ("question", "answer"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("query", "response"),
    ("instruction", "output"),
    ("input", "output"),
    ("problem", "solution"),
)


@dataclass(frozen=True, slots=True)
class Data:
    """Examples to train on, and others to judge by.

    Attributes:
        name: of the source.
        train: in the order they are used.
        held_out: never trained on.
    """

    name: str
    train: list[Example]
    held_out: list[Example]


def load(
    source: str, *, train_size: int | None, held_out_size: int, seed: int, config: str | None = None
) -> Data:
    """Examples from `wordmath`, a JSONL file or folder, or a data set on the hub.

    A folder holds `train.jsonl` and `test.jsonl` (or validation, dev, heldout). Of a single file or
    of a data set with only a train split, the held-out examples are drawn first and never trained
    on. Rows have question and answer, prompt and completion, or instruction (input) and output.

    Args:
        source: `"wordmath"`, a path, or a hub id.
        train_size: how many to train on; None for all (2,000 of wordmath).
        held_out_size: how many to judge by.
        seed: of the draw.
        config: configuration name of a hub data set, e.g. `"main"` of `openai/gsm8k`.

    Raises:
        DataError: nothing there, a malformed row, or too few rows.
    """
    if source == WORDMATH:
        try:
            made = _made("train", 2000 if train_size is None else train_size, seed)
            return Data(WORDMATH, made, _made("test", held_out_size, seed))
        except ValueError as error:
            raise DataError(f"wordmath: {error}") from error
    of_train, of_held_out = own_splits(source, config)
    train = _examples(of_train)
    held_out = None if of_held_out is None else _examples(of_held_out)
    rng = random.Random(seed)
    if held_out is None:
        rng.shuffle(train)
        train, held_out = train[held_out_size:], train[:held_out_size]
    else:
        rng.shuffle(train)
        rng.shuffle(held_out)
    # By the question, which a file may hold several answers to, and the splits may share.
    judged = {example.question for example in held_out}
    train = [example for example in train if example.question not in judged]
    wanted = len(train) if train_size is None else train_size
    if len(train) < max(wanted, 1) or len(held_out) < held_out_size:
        raise DataError(
            f"{source}: expected {max(wanted, 1)} training and {held_out_size} held-out examples, "
            f"got {len(train)} and {len(held_out)}: ask for fewer (--train-size, --held-out-size)"
        )
    return Data(source, train[:wanted], held_out[:held_out_size])


def _made(split: wordmath.Split, size: int, seed: int) -> list[Example]:
    return [Example(p.question, p.answer) for p in wordmath.generate(split, size, seed=seed)]


def _examples(rows: Iterable[Located]) -> list[Example]:
    return [as_example(row, where) for where, row in rows]


def as_example(row: Any, where: str) -> Example:
    """A row with any of the known pairs of fields, as a question and its answer.

    Raises:
        DataError: it has none of them, or no text there; says where.
    """
    keys: list[str] = sorted(row) if isinstance(row, Mapping) else []
    for question, answer in _FIELDS:
        if question in keys and answer in keys:
            pair = row[question], row[answer]
            if not all(isinstance(text, str) for text in pair):
                raise DataError(f"{where}: expected text in {question!r} and {answer!r}")
            if not pair[1].strip():
                raise DataError(f"{where}: {answer!r} is empty: there is nothing to learn from it")
            context = row.get("input") if question == "instruction" else None
            asked = f"{pair[0]}\n\n{context}" if isinstance(context, str) and context else pair[0]
            return Example(asked, pair[1])
    known = "; ".join(f"{q} and {a}" for q, a in _FIELDS)
    raise DataError(f"{where}: expected an object with {known}; got {keys or type(row).__name__}")
