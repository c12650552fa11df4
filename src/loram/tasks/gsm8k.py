"""GSM8K: grade-school word problems with worked answers.

Source: Cobbe et al. 2021, arXiv 2110.14168. The official test set is the test set; validation is
drawn from train. Graded as by the authors' own script (`dataset.py` of openai/grade-school-math).
"""

import re
from pathlib import Path

from loram.tasks.parting import part
from loram.tasks.reading import answered, as_examples, read_hub, read_pair
from loram.tasks.task import Request, Splits

__all__ = ["PAPER", "SOURCE", "load", "official_match"]

PAPER = "2110.14168"
SOURCE = "openai/gsm8k"
_OFFICIAL = re.compile(r"#### (-?[0-9.,]+)")


def load(request: Request) -> Splits:
    """GSM8K's splits: of the hub, or a folder with `train.jsonl` and `test.jsonl`.

    The training file may hold other texts with the fields that `loram.tasks.sources` reads, such
    as MetaMathQA's.

    Raises:
        DataError: nothing there, or a malformed row, or a test answer without a result.
    """
    source = request.source or SOURCE
    path = Path(source)
    if path.exists():
        train, test = read_pair(path)
    else:
        config = request.config or "main"
        train, test = (read_hub(source, config, split) for split in ("train", "test"))
    return part(
        as_examples(train, f"{source}, train"),
        answered(as_examples(test, f"{source}, test"), _stated, "#### n", f"{source}, test"),
        request,
        source,
    )


def official_match(prediction: str, reference: str) -> bool:
    """Whether both state the same number after `#### `: as text, commas dropped.

    So `18.00`, `18.` and `$18` are not `18`, as in the script.

    Args:
        prediction: what the model wrote.
        reference: the worked answer it is judged by.
    """
    stated = _stated(prediction)
    return stated is not None and stated == _stated(reference)


def _stated(text: str) -> str | None:
    found = _OFFICIAL.search(text)
    return found[1].replace(",", "") if found else None
