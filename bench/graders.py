r"""Our graders beside the benchmarks' own scripts, on random answers.

RAW=https://raw.githubusercontent.com
curl -O $RAW/hendrycks/math/main/modeling/math_equivalence.py
curl -O $RAW/openai/grade-school-math/master/grade_school_math/dataset.py
curl -O $RAW/EleutherAI/lm-evaluation-harness/main/lm_eval/tasks/hendrycks_math/utils.py
python bench/graders.py --math math_equivalence.py --gsm8k dataset.py --boxed utils.py

Texts are made of pieces that the scripts treat in some way (`\frac`, units, `####`, commas). Half
of the second ones are the first with a piece exchanged, so that many pairs are the same to the
script. Prints how many are graded alike, and the first that are not; ends with 1 if there are any.
Boxes are compared where the harness's script does not give up, and on texts without `\boxed ` and
a space, which MATH's own script does not read.
"""

import argparse
import random
import runpy
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from loram.tasks.gsm8k import official_match
from loram.tasks.math_answers import boxed, equivalent

SHOWN = 5
MATH_PIECES = (
    *("0", "1", "2", "3", "12", "0.5", ".5", "-", "+", "/", "=", "x", "k", " ", ",", ".", "("),
    *(")", "{", "}", "{1}", "{2}", "{.3}", "\n", "%", "$", "^", "_", "a b", "02", "x = ", "xy="),
    *("\\", r"\frac", r"\dfrac", r"\tfrac", r"\frac{1}{2}", r"\frac12", r"\frac1{2}", r"\sqrt"),
    *(r"\sqrt3", r"\sqrt{3}", r"\text{ cm}", r"\text{cm}", r"\text{ ", r"\left", r"\right"),
    *(r"\left(", r"\!", r"^\circ", r"^{\circ}", r"\$", r"\%", r"\\", "1/2", "2/4", "-1/2"),
    *("1/-2", r"\pi", "x^2"),
)
GSM8K_PIECES = (
    *("#### ", "#### ", "#### ", "#### ", "####", "### ", " ", "\n", "-", "$", ",", ".", "0", "1"),
    *("18", "18", "1,000", "1000", "18.00", "18.", "so ", "<<1+1=2>>", "<|endoftext|>", "#", "５"),
)
BOX_PIECES = (
    *(r"\boxed{", r"\boxed{1}", r"\boxed{\frac{1}{2}}", r"\boxed", r"\fbox{", r"\fbox{2}"),
    *("{", "}", "$", " ", "7", "so ", "{a{b}c}", "\n"),
)


def texts(pieces: Sequence[str], count: int, generator: random.Random) -> Iterator[tuple[str, str]]:
    """Random texts, each with another that is often a slight change of it."""
    for _ in range(count):
        one = generator.choices(pieces, k=generator.randint(0, 6))
        other = list(one)
        if generator.random() < 0.5:
            other = generator.choices(pieces, k=generator.randint(0, 6))
        elif other:
            place = generator.randrange(len(other))
            new = generator.choices(pieces, k=generator.randint(0, 1))
            other[place : place + generator.randint(0, 1)] = new
        yield "".join(one), "".join(other)


def beside(
    name: str,
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    given: Iterable[tuple[str, ...]],
) -> int:
    """Compare two functions; returns the number of arguments at which they differ."""
    total = found = 0
    differing: list[tuple[tuple[str, ...], Any, Any]] = []
    for each in given:
        wanted, got = theirs(*each), ours(*each)
        total += 1
        found += wanted not in (False, None)
        if got != wanted:
            differing.append((each, wanted, got))
    print(f"{name}: {total:,} compared, {found:,} positive, {len(differing):,} differ")
    for each, wanted, got in differing[:SHOWN]:
        print(f"  {', '.join(map(repr, each))}: theirs {wanted!r}, ours {got!r}")
    return len(differing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--math", type=Path, metavar="math_equivalence.py")
    parser.add_argument("--gsm8k", type=Path, metavar="dataset.py")
    parser.add_argument("--boxed", type=Path, metavar="utils.py")
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    comparisons = {"math": of_math, "gsm8k": of_gsm8k, "boxed": of_boxes}
    asked = {name: file for name in comparisons if (file := getattr(options, name)) is not None}
    if not asked:
        parser.error("expected a script to compare with: --math, --gsm8k, --boxed")
    generator = random.Random(options.seed)
    wrong = 0
    for name, file in asked.items():
        wrong += comparisons[name](runpy.run_path(str(file)), options.pairs, generator)
    raise SystemExit(wrong > 0)


def of_math(script: dict[str, Any], count: int, generator: random.Random) -> int:
    return beside("MATH", equivalent, script["is_equiv"], texts(MATH_PIECES, count, generator))


def of_gsm8k(script: dict[str, Any], count: int, generator: random.Random) -> int:
    stated = (
        (prediction, reference)
        for prediction, reference in texts(GSM8K_PIECES, count, generator)
        if script["extract_answer"](reference) != script["INVALID_ANS"]
    )

    def correct(prediction: str, reference: str) -> bool:
        return script["is_correct"](prediction, {"answer": reference})

    return beside("GSM8K", official_match, correct, stated)


def of_boxes(script: dict[str, Any], count: int, generator: random.Random) -> int:
    def content(text: str) -> str | None:
        box = script["last_boxed_only_string"](text)
        return None if box is None else script["remove_boxed"](box)

    def readable() -> Iterator[tuple[str]]:
        for text, _ in texts(BOX_PIECES, count, generator):
            try:
                content(text)
            except AssertionError:
                continue
            if r"\boxed " not in text:
                yield (text,)

    return beside("boxes", boxed, content, readable())


if __name__ == "__main__":
    main()
