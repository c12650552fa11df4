r"""Whether two answers to a competition problem are the same, by the rules of MATH's own script.

Source: Hendrycks et al. 2021, "Measuring Mathematical Problem Solving With the MATH Dataset",
arXiv 2103.03874, and the evaluation published with it: the content of the last `\boxed`, brought to
one way of writing, compared as text. Its quirks are kept, so that the numbers can be compared:
`2 = x` is not `x = 2`, 0.25 is not 1/4, though 0.5 is 1/2.
"""

import re

__all__ = ["boxed", "equivalent", "math_flexible", "math_match", "normalised"]

_SAID = re.compile(r"the answer is:?", re.IGNORECASE)
_BEFORE_UNITS = (
    ("\n", ""),
    (r"\!", ""),
    ("\\\\", "\\"),
    ("tfrac", "frac"),
    ("dfrac", "frac"),
    (r"\left", ""),
    (r"\right", ""),
    (r"^{\circ}", ""),
    (r"^\circ", ""),
    (r"\$", ""),
)
_AFTER_UNITS = ((r"\%", ""), ("%", ""), (" .", " 0."), ("{.", "{0."))
_UNITS = r"\text{ "
_INTEGER = r"(0|-?[1-9][0-9]*)"


class _Unreadable(ValueError):
    """The reference script gives up on such an answer and compares it as it stands."""


def boxed(text: str) -> str | None:
    r"""What stands in the last `\boxed{…}`; where there is no `\boxed`, in the last `\fbox{…}`.

    None if there is none, or if its braces don't close, as in a text that was cut off. The script
    finds `\fbox{2}`, `\boxed {2}` and `\boxed 2`, which ends at a dollar sign, and then gives up
    on them; here they count, as the last one does in lm-evaluation-harness.
    """
    name = r"\boxed" if r"\boxed" in text else r"\fbox"
    _, found, rest = text.rpartition(name)
    if not found:
        return None
    if name == r"\boxed" and re.match(r" [^{\s]", rest):
        return rest.split("$")[0].strip()
    rest = rest.lstrip()
    if not rest.startswith("{"):
        return None
    depth = 0
    for place, letter in enumerate(rest):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if depth == 0:
            return rest[1:place]
    return None


def equivalent(one: str | None, other: str | None) -> bool:
    """Whether two answers are written the same way once normalised; None equals nothing."""
    if one is None or other is None:
        return False
    try:
        return normalised(one) == normalised(other)
    except _Unreadable:
        return one == other


def normalised(answer: str) -> str:
    """An answer without spaces, units, degrees, percent and dollar signs, fractions in braces."""
    text = _replaced(answer, _BEFORE_UNITS)
    if text.count(_UNITS) > 1:
        raise _Unreadable(answer)
    text = _replaced(text.partition(_UNITS)[0], _AFTER_UNITS)
    if text.startswith("."):
        text = f"0{text}"
    if text.count("=") == 1:  # "x = 2"; a longer left-hand side is part of the answer
        name, _, value = text.partition("=")
        text = value if len(name) <= 2 else text
    text = _braced_fractions(_braced_roots(text).replace(" ", ""))
    if text == "0.5":
        return r"\frac{1}{2}"
    ratio = re.fullmatch(f"{_INTEGER}/{_INTEGER}", text)
    return rf"\frac{{{ratio[1]}}}{{{ratio[2]}}}" if ratio else text


def _replaced(text: str, table: tuple[tuple[str, str], ...]) -> str:
    for old, new in table:
        text = text.replace(old, new)
    return text


def _braced_roots(text: str) -> str:
    r"""`\sqrt3` → `\sqrt{3}`."""
    head, *pieces = text.split(r"\sqrt")
    if not all(pieces):
        raise _Unreadable(text)
    braced = (each if each[0] == "{" else f"{{{each[0]}}}{each[1:]}" for each in pieces)
    return r"\sqrt".join([head, *braced])


def _braced_fractions(text: str) -> str:
    r"""`\frac12`, `\frac1{2}` → `\frac{1}{2}`; as it is if one has no two parts."""
    head, *pieces = text.split(r"\frac")
    whole = [head]
    for piece in pieces:
        if not piece:
            raise _Unreadable(text)
        if piece[0] == "{":
            whole.append(piece)
            continue
        if len(piece) == 1:
            return text
        above, below, rest = piece[0], piece[1], piece[2:]
        whole.append(f"{{{above}}}" + (f"{{{rest}" if below == "{" else f"{{{below}}}{rest}"))
    return r"\frac".join(whole)


def math_match(prediction: str, reference: str) -> bool:
    r"""Whether the last `\boxed` answers agree; a reference without one is the answer itself."""
    wanted = boxed(reference)
    return equivalent(boxed(prediction), reference if wanted is None else wanted)


def math_flexible(prediction: str, reference: str) -> bool:
    r"""As `math_match`, but `The answer is: …` also counts where nothing is boxed (MetaMath's)."""
    if boxed(prediction) is not None:
        return math_match(prediction, reference)
    wanted = boxed(reference)
    said = _SAID.split(prediction)
    if len(said) < 2:
        return False
    stated = said[-1].strip().split("\n")[0].strip().removesuffix(".").strip("$ ")
    return equivalent(stated, reference if wanted is None else wanted)
