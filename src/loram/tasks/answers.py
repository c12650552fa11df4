"""Judging a written answer: the result after `####`, by value; no number there is wrong.

The form is GSM8K's (Cobbe et al. 2021, arXiv 2110.14168), whose own stricter grading is in
`loram.tasks.gsm8k`. Papers that fine-tune on other texts read the last number instead, wherever it
stands: `flexible_match`.
"""

import re
from decimal import Decimal, InvalidOperation

__all__ = ["exact_match", "final_answer", "flexible_match", "last_number", "same_number"]

_MARKED = re.compile(r"####\s*\$?\s*(-?[0-9][0-9.,]*)")
_NUMBER = re.compile(r"(?<![0-9A-Za-z_.])-?\$?(?:[0-9][0-9,]*(?:\.[0-9]+)?|\.[0-9]+)")


def final_answer(text: str) -> str | None:
    """The result a text states after `####`, without commas or a full stop; None if none."""
    match = _MARKED.search(text)
    return match.group(1).replace(",", "").rstrip(".") if match else None


def last_number(text: str) -> str | None:
    """The last number of a text, without commas or a dollar sign; None if there is none."""
    found = _NUMBER.findall(text)
    return re.sub("[$,]", "", found[-1]) if found else None


def same_number(one: str | None, other: str | None) -> bool:
    """Whether both are there and equal by value, or else as text."""
    if one is None or other is None:
        return False
    try:
        return Decimal(one) == Decimal(other)
    except InvalidOperation:
        return one == other


def exact_match(prediction: str, reference: str) -> bool:
    """Whether two worked answers agree: by value if the reference has `#### n`, else by its words.

    Args:
        prediction: what the model wrote.
        reference: the worked answer it is judged by.
    """
    wanted = final_answer(reference)
    if wanted is None:
        return prediction.split() == reference.split()
    return same_number(final_answer(prediction), wanted)


def flexible_match(prediction: str, reference: str) -> bool:
    """Whether the last number of the prediction is the result of the reference (`#### n`, or last).

    Args:
        prediction: what the model wrote.
        reference: the worked answer it is judged by.
    """
    wanted = final_answer(reference) or last_number(reference)
    return same_number(last_number(prediction), wanted)
