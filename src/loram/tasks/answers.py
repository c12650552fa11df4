"""Judging a written answer: the result after `####`, as GSM8K's own script reads it.

Source: Cobbe et al. 2021, arXiv 2110.14168, and the data set's published grading: the number after
`####`, commas dropped, compared; no number there is wrong.
"""

import re
from decimal import Decimal, InvalidOperation

__all__ = ["exact_match", "final_answer"]

_MARKED = re.compile(r"####\s*\$?\s*(-?[0-9][0-9.,]*)")


def final_answer(text: str) -> str | None:
    """The result a text states after `####`, without commas or a full stop; None if none."""
    match = _MARKED.search(text)
    return match.group(1).replace(",", "").rstrip(".") if match else None


def exact_match(prediction: str, reference: str) -> bool:
    """Whether two worked answers agree: by value if the reference has `#### n`, else by its words.

    Args:
        prediction: what the model wrote.
        reference: the worked answer it is judged by.
    """
    wanted = final_answer(reference)
    if wanted is None:
        return prediction.split() == reference.split()
    got = final_answer(prediction)
    if got is None:
        return False
    try:
        return Decimal(got) == Decimal(wanted)
    except InvalidOperation:
        return got == wanted
