"""Eight sets of common-sense questions, judged by which answer the model finds likeliest.

Source: the formats of Commonsense170K, Hu et al. 2023, "LLM-Adapters", arXiv 2304.01933. What a
model is trained to write is `the correct answer is answer2`, and the options are that sentence with
every label the question allows. The sets' published validation is the test where their test has no
labels (BoolQ, PIQA, SocialIQA, HellaSwag, WinoGrande), as there; validation is drawn from train.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from loram.tasks.commonsense_hub import HUB
from loram.tasks.errors import DataError
from loram.tasks.parting import part
from loram.tasks.reading import Row, find, need, read_hub, read_rows
from loram.tasks.task import Choice, Request, Splits

__all__ = ["PAPER", "choice", "choice_scores", "load"]

PAPER = "2304.01933"
_FORMAT = re.compile(r"Answer format:\s*([^\s/]+(?:/[^\s/]+)+)\s*$")
_SENTENCE = "the correct answer is {}"
_TRAIN = ("train", "commonsense_170k", "commonsense_15k")


def load(name: str, request: Request) -> Splits:
    """One set, of the hub or of a folder.

    A folder holds `NAME_test` and `NAME_train`, or one training file for all sets (`train`,
    `commonsense_170k` or `commonsense_15k`), .jsonl or .json, with `instruction` and `answer`.

    Args:
        name: a key of `HUB`.
        request: its source, if any, is the folder.

    Raises:
        DataError: nothing there, a malformed row, or an answer its question does not allow.
    """
    if request.source is None:
        hub = HUB[name]
        rows = [read_hub(hub.source, hub.config, split) for split in ("train", hub.test)]
        train, test = ([hub.row(row) for row in each] for each in rows)
        where = hub.source
    else:
        folder = Path(request.source)
        files = find(folder, [f"{name}_train", *_TRAIN]), find(folder, [f"{name}_test", "test"])
        if files[0] is None or files[1] is None:
            missing = f"{name}_test" if files[0] else f"{name}_train or {' or '.join(_TRAIN)}"
            raise DataError(f"{folder}: expected {missing}, as .jsonl or .json, found none")
        train, test = read_rows(files[0]), read_rows(files[1])
        where = str(folder)
    return part(
        [choice(row, f"{where}, train, row {n}") for n, row in enumerate(train, start=1)],
        [choice(row, f"{where}, test, row {n}") for n, row in enumerate(test, start=1)],
        request,
        where,
    )


def choice(row: Row, where: str) -> Choice:
    """A row of Commonsense170K's format.

    Raises:
        DataError: no such row.
    """
    question = need(row, "instruction", str, where).strip()
    answer = need(row, "answer", str, where).strip()
    allowed = _FORMAT.search(question)
    if allowed is None:
        raise DataError(
            f"{where}: expected an instruction that ends with 'Answer format: one/other', got "
            f"{question[-60:]!r}"
        )
    labels = allowed[1].split("/")
    if answer not in labels:
        raise DataError(f"{where}: expected an answer out of {labels}, got {answer!r}")
    options = tuple(_SENTENCE.format(label) for label in labels)
    return Choice(question, options, labels.index(answer))


def choice_scores(
    likelihoods: Sequence[Sequence[float]], choices: Sequence[Choice]
) -> dict[str, float]:
    """The share of questions whose right option is the likeliest.

    Where options tie for the likeliest, the right one among k counts 1/k: what picking one of them
    at random would give. With NaN among them, nothing is right.

    Args:
        likelihoods: of every option of every question, in nats.
        choices: the questions.

    Returns:
        `accuracy`; `accuracy_norm`, by likelihood per UTF-8 byte of the option's text.

    Raises:
        ValueError: no questions, or likelihoods that don't belong to them.
    """
    if not choices or [len(each) for each in likelihoods] != [len(c.options) for c in choices]:
        raise ValueError(
            "expected a likelihood for every option of one question or more, got "
            f"{len(likelihoods)} lists for {len(choices)} questions"
        )
    plain = normed = 0.0
    for scores, (_, options, right) in zip(likelihoods, choices, strict=True):
        plain += _credit(scores, right)
        sizes = [len(option.encode()) or 1 for option in options]
        normed += _credit([s / size for s, size in zip(scores, sizes, strict=True)], right)
    return {"accuracy": plain / len(choices), "accuracy_norm": normed / len(choices)}


def _credit(scores: Sequence[float], right: int) -> float:
    if any(score != score for score in scores):
        return 0.0
    best = max(scores)
    return (scores[right] == best) / sum(score == best for score in scores)
