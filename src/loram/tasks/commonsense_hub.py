"""The eight sets as they lie on the hub, brought to the format of Commonsense170K."""

from collections.abc import Callable
from typing import Any, NamedTuple

from loram.tasks.reading import Row

__all__ = ["HUB", "Hub"]


class Hub(NamedTuple):
    """Where a set lies, which split is judged, and how its rows are read."""

    source: str
    config: str | None
    test: str
    row: Callable[[Row], Row]


def _options(ask: str, word: str, options: list[str], right: int, *, gap: str = " ") -> Row:
    """A question whose options are numbered: `Answer1: … Answer2: …`."""
    listed = gap.join(f"{word}{n}: {text}" for n, text in enumerate(options, start=1))
    labels = [f"{word.lower()}{n}" for n in range(1, len(options) + 1)]
    text = f"{ask}\n\n{listed}\n\nAnswer format: {'/'.join(labels)}"
    return {"instruction": text, "answer": labels[right] if 0 <= right < len(labels) else ""}


def _boolq(row: Row) -> Row:
    ask = f"Please answer the following question with true or false, question: {row['question']}?"
    return {
        "instruction": f"{ask}\n\nAnswer format: true/false",
        "answer": "true" if row["answer"] else "false",
    }


def _piqa(row: Row) -> Row:
    ask = f"Please choose the correct solution to the question: {row['goal']}"
    return _options(ask, "Solution", [row["sol1"], row["sol2"]], int(row["label"]), gap="\n\n")


def _social_i_qa(row: Row) -> Row:
    ask = f"Please choose the correct answer to the question: {row['context']} {row['question']}"
    options = [row[f"answer{letter}"] for letter in "ABC"]
    return _options(ask, "Answer", options, int(row["label"]) - 1)


def _hellaswag(row: Row) -> Row:
    started = f"{row['activity_label']}: {row['ctx']}"
    ask = f"Please choose the correct ending to complete the given sentence: {started}"
    return _options(ask, "Ending", row["endings"], int(row["label"]))


def _winogrande(row: Row) -> Row:
    ask = (
        "Please choose the correct answer to fill in the blank to complete the given sentence: "
        f"{row['sentence']}"
    )
    made = _options(ask, "Option", [row["option1"], row["option2"]], int(row["answer"] or 0) - 1)
    # Here alone the options and the format share a line.
    return made | {"instruction": made["instruction"].replace("\n\nAnswer f", " Answer f")}


def _lettered(question: str) -> Callable[[Row], Row]:
    def read(row: Row) -> Row:
        ask = f"Please choose the correct answer to the question: {row[question]}"
        choices: dict[str, list[Any]] = row["choices"]
        right = choices["label"].index(row["answerKey"]) if row["answerKey"] else -1
        return _options(ask, "Answer", choices["text"], right)

    return read


HUB = {
    "boolq": Hub("google/boolq", None, "validation", _boolq),
    "piqa": Hub("ybisk/piqa", None, "validation", _piqa),
    "social_i_qa": Hub("allenai/social_i_qa", None, "validation", _social_i_qa),
    "hellaswag": Hub("Rowan/hellaswag", None, "validation", _hellaswag),
    "winogrande": Hub("allenai/winogrande", "winogrande_xl", "validation", _winogrande),
    "arc_easy": Hub("allenai/ai2_arc", "ARC-Easy", "test", _lettered("question")),
    "arc_challenge": Hub("allenai/ai2_arc", "ARC-Challenge", "test", _lettered("question")),
    "openbookqa": Hub("allenai/openbookqa", "main", "test", _lettered("question_stem")),
}
"""The sets by name; where test has no labels, the published validation set is judged."""
