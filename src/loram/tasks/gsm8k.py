"""GSM8K: grade-school word problems with worked answers.

Source: Cobbe et al. 2021, arXiv 2110.14168. The official test set is the test set; validation is
drawn from train.
"""

from pathlib import Path

from loram.tasks.answers import final_answer
from loram.tasks.parting import part
from loram.tasks.reading import answered, as_examples, read_hub, read_pair
from loram.tasks.task import Request, Splits

__all__ = ["PAPER", "SOURCE", "load"]

PAPER = "2110.14168"
SOURCE = "openai/gsm8k"


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
        answered(as_examples(test, f"{source}, test"), final_answer, "#### n", f"{source}, test"),
        request,
        source,
    )
