"""GLUE: sentences and pairs of them to be classified, or scored (STS-B), from files or the hub.

Source: Wang et al. 2019, arXiv 1804.07461. GLUE keeps the labels of its test sets to itself, so
what is reported is its development set, as in the papers; what is tuned on is drawn from train.
Validation and the pool that training examples are taken from depend on `Request.seed` alone.
"""

import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from loram.tasks.errors import DataError
from loram.tasks.glue_metrics import scorer
from loram.tasks.rows import hub_splits, read_rows
from loram.tasks.task import Labelled, Request, Splits, Task

__all__ = ["GLUE", "SOURCE"]

SOURCE = "nyu-mll/glue"

_PAPER = "1804.07461"
_TEXTS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("sentence", None),
)
_LABELS = ("label", "score")
_TRAIN = ("train",)
# A local test.jsonl is judged by only where there is no development set.
_TEST = ("dev", "validation", "dev_matched", "validation_matched", "test")
_Split = Callable[[], list[Labelled]]
"""Reads a split when it is needed."""

_FURTHER = {"mm": ("dev_mismatched", "validation_mismatched")}


@dataclass(frozen=True, slots=True)
class _Glue:
    """Loads one of the tasks.

    Attributes:
        name: on the hub, and at the start of a file's name.
        classes: how many; 1 for a score.
        pair: two texts.
    """

    name: str
    classes: int
    pair: bool

    def load(self, request: Request) -> Splits:
        """Splits without a text of validation or test in train.

        Raises:
            DataError: nothing there, a row that can't be read, or too few of them.
        """
        path = None if request.source is None else Path(request.source)
        if path is None or not path.exists():
            splits = hub_splits(request.source or SOURCE, request.config or self.name)
            named: Mapping[str, _Split] = {
                name: partial(self._of_hub, rows, f"{self.name}, {name}")
                for name, rows in splits.items()
            }
        elif path.is_file():
            return self._from_one(request, self._examples(read_rows(path)))
        else:
            named = self._files(path)
        where = request.source or SOURCE
        train = self._first(named, _TRAIN, where)
        test = self._first(named, _TEST, where)
        further = {
            ending: named[name]()
            for ending, names in _FURTHER.items()
            for name in names
            if name in named and self.name == "mnli"
        }
        return _drawn(request, train, test, further, self.name)

    def _files(self, folder: Path) -> Mapping[str, _Split]:
        """Rows by split: of `mrpc_dev.jsonl`, or of `dev.jsonl` in a folder for one task."""
        found = {file.stem: file for file in sorted(folder.glob("*.jsonl"))}
        prefix = f"{self.name}_"
        own = {stem.removeprefix(prefix): f for stem, f in found.items() if stem.startswith(prefix)}
        files = own or found
        if not files:
            raise DataError(f"{folder}: expected {prefix}train.jsonl or train.jsonl, found none")
        return {name: lambda f=f: self._examples(read_rows(f)) for name, f in files.items()}

    def _first(
        self, named: Mapping[str, _Split], names: tuple[str, ...], where: str
    ) -> list[Labelled]:
        for name in names:
            if name in named:
                return named[name]()
        raise DataError(
            f"{where}: expected a split of {self.name} called {' or '.join(names)}, got "
            f"{sorted(named) or 'none'}"
        )

    def _of_hub(self, rows: Iterable[Any], where: str) -> list[Labelled]:
        return self._examples((f"{where}, row {i}", row) for i, row in enumerate(rows, start=1))

    def _examples(self, rows: Iterable[tuple[str, Any]]) -> list[Labelled]:
        return [self._example(row, where) for where, row in rows]

    def _example(self, row: Any, where: str) -> Labelled:
        keys = sorted(map(str, row)) if isinstance(row, Mapping) else []
        texts = next(
            (
                (first, second)
                for first, second in _TEXTS
                if (second is not None) == self.pair and first in keys and second in (*keys, None)
            ),
            None,
        )
        label = next((name for name in _LABELS if name in keys), None)
        if texts is None or label is None:
            known = "; ".join(
                " and ".join(filter(None, names))
                for names in _TEXTS
                if (names[1] is not None) == self.pair
            )
            raise DataError(
                f"{where}: expected an object with {known}, and label or score; got "
                f"{keys or type(row).__name__}"
            )
        first, second = (None if name is None else row[name] for name in texts)
        if not isinstance(first, str) or not isinstance(second, str if self.pair else type(None)):
            raise DataError(f"{where}: expected text in {' and '.join(filter(None, texts))}")
        return Labelled(first, second, self._label(row[label], f"{where}: {label}"))

    def _label(self, value: Any, where: str) -> int | float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if self.classes == 1:
            if number and math.isfinite(value):
                return float(value)
            raise DataError(f"{where}: expected a finite score, got {value!r}")
        if number and isinstance(value, int) and 0 <= value < self.classes:
            return value
        hint = ": unlabelled rows can't be used" if value == -1 else ""
        raise DataError(
            f"{where}: expected a class of {self.name}, 0 to {self.classes - 1}, got "
            f"{value!r}{hint}"
        )

    def _from_one(self, request: Request, rows: list[Labelled]) -> Splits:
        """Of a single file, what is judged by is drawn first."""
        if request.test_size is None:
            raise DataError(
                f"{request.source}: a single file has no test split of its own: say how many "
                "examples to judge by (--held-out-size), or name a folder"
            )
        _rng(self.name, "test", request).shuffle(rows)
        test, rest = rows[: request.test_size], rows[request.test_size :]
        return _drawn(request, rest, test, {}, self.name)


def _drawn(
    request: Request,
    train: list[Labelled],
    test: list[Labelled],
    further: Mapping[str, list[Labelled]],
    name: str,
) -> Splits:
    """Sizes as asked for; nothing that is judged by, or its text with another label, in train."""
    judged = {row[:2] for rows in (test, *further.values()) for row in rows}
    pool = [row for row in train if row[:2] not in judged]
    _rng(name, "train", request).shuffle(pool)
    validation, rest = pool[: request.validation_size], pool[request.validation_size :]
    tuned = {row[:2] for row in validation}
    rest = [row for row in rest if row[:2] not in tuned]
    size = len(rest) if request.train_size is None else request.train_size
    wanted = len(test) if request.test_size is None else request.test_size
    if len(rest) < max(size, 1) or len(validation) < request.validation_size or len(test) < wanted:
        raise DataError(
            f"{request.source or SOURCE}: expected {max(size, 1)} training, "
            f"{request.validation_size} validation and {wanted} test examples of {name}, got "
            f"{len(rest)}, {len(validation)} and {len(test)}: ask for fewer (--train-size, "
            "--validation-size, --held-out-size)"
        )
    if not test:
        raise DataError(f"{request.source or SOURCE}: no example of {name} to judge by")
    return Splits(
        train=tuple(rest[:size]),
        validation=tuple(validation),
        test=_some(test, request, name, "test"),
        further={ending: _some(rows, request, name, ending) for ending, rows in further.items()},
    )


def _some(rows: list[Labelled], request: Request, name: str, split: str) -> tuple[Labelled, ...]:
    """All, or a draw of `test_size`."""
    if request.test_size is None or request.test_size >= len(rows):
        return tuple(rows)
    return tuple(_rng(name, split, request).sample(rows, request.test_size))


def _rng(name: str, split: str, request: Request) -> random.Random:
    return random.Random(f"glue/{name} {split} {request.seed}")


def _task(name: str, what: str, classes: int, metrics: str, *, pair: bool = True) -> Task:
    names = metrics.split()
    return Task(
        name=f"glue/{name}",
        what=what,
        kind="labels",
        metric=names[0],
        better="high",
        load=_Glue(name, classes, pair).load,
        score=scorer(*names),
        classes=classes,
        source=SOURCE,
        paper=_PAPER,
    )


GLUE = (
    _task("mnli", "entailed, neutral or contradicted; matched and mismatched", 3, "accuracy"),
    _task("sst2", "sentiment of a sentence", 2, "accuracy", pair=False),
    _task("mrpc", "whether two sentences say the same", 2, "accuracy f1"),
    _task("cola", "whether a sentence is grammatical", 2, "matthews", pair=False),
    _task("qnli", "whether a sentence answers a question", 2, "accuracy"),
    _task("qqp", "whether two questions ask the same", 2, "accuracy f1"),
    _task("rte", "whether a sentence follows from another", 2, "accuracy"),
    _task("stsb", "how similar two sentences are, 0 to 5", 1, "pearson spearman"),
)
"""Rows of the table of tasks."""
