"""What a task is: examples of one kind in three splits, and the metrics it is judged by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

__all__ = [
    "Better",
    "Choice",
    "Example",
    "Kind",
    "Labelled",
    "Pictured",
    "Program",
    "Request",
    "Splits",
    "Task",
]

Better = Literal["high", "low"]
Kind = Literal["answers", "labels", "choices", "programs", "images"]
"""What a model does: writes an answer, labels a text, picks an option, writes a program,
answers to an image."""


class Example(NamedTuple):
    """A question, and the answer a model should write."""

    question: str
    answer: str


class Labelled(NamedTuple):
    """One or two texts, and their class (int) or score (float)."""

    first: str
    second: str | None
    label: int | float


class Pictured(NamedTuple):
    """Images, a question about them, the answer a model should write, and where it stands.

    Attributes:
        images: of the question, in its order: paths, or decoded images.
        question: of the user.
        answer: the right one.
        where: file and line, for messages.
    """

    images: tuple[Any, ...]
    question: str
    answer: str
    where: str


class Choice(NamedTuple):
    """A question with options, of which one is right; trained on as its right answer's text."""

    question: str
    options: tuple[str, ...]
    right: int


class Program(NamedTuple):
    """A programming problem: the prompt, a worked solution, and the tests a program must pass."""

    question: str
    answer: str
    tests: str
    entry_point: str | None


@dataclass(frozen=True, slots=True)
class Splits:
    """Examples of one kind.

    Attributes:
        train: in the order they are used.
        validation: to tune on; drawn from train where the source has none of its own.
        test: to report; never trained or tuned on.
        further: test sets beside it, by the ending of their metrics' names, such as MNLI's `mm`.
    """

    train: Sequence[Any]
    validation: Sequence[Any]
    test: Sequence[Any]
    further: Mapping[str, Sequence[Any]] = field(default_factory=dict[str, Sequence[Any]])


@dataclass(frozen=True, slots=True)
class Request:
    """What a run asks of a task's data.

    Attributes:
        source: path or hub id; None for the task's own.
        config: of a hub data set.
        train_size: examples; None for all.
        validation_size: examples.
        test_size: examples; None for all.
        seed: of the draw; not that of the run, so that all seeds of a study have the same examples.
    """

    source: str | None = None
    config: str | None = None
    train_size: int | None = None
    validation_size: int = 0
    test_size: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """One row of the table of tasks.

    Attributes:
        name: as `loram train --task` takes it.
        what: in one line.
        kind: of its examples.
        metric: the main one, which is tuned on.
        better: whether more or less of it is better.
        load: splits on request; raises `DataError`.
        score: for `labels`: (predictions, labels) → metrics. For `answers`: (written, reference) →
            whether it is right. None for the rest.
        also: further rules, of the form of `score`, for `answers`: by the metric's name.
        classes: how many, for `labels`; 1 is a score to predict (regression).
        source: hub id where the data is found by default; None if a path must be given.
        paper: arXiv id or address of the benchmark.
    """

    name: str
    what: str
    kind: Kind
    metric: str
    better: Better
    load: Callable[[Request], Splits]
    score: Callable[[Any, Any], Any] | None = None
    also: Mapping[str, Callable[[str, str], bool]] = field(
        default_factory=dict[str, Callable[[str, str], bool]]
    )
    classes: int | None = None
    source: str | None = None
    paper: str = "-"
