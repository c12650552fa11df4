"""MATH: competition problems with worked solutions.

Source: Hendrycks et al. 2021, arXiv 2103.03874. The official test set is the test set; validation
is drawn from train.
"""

from pathlib import Path

from loram.tasks.math_answers import boxed
from loram.tasks.parting import part
from loram.tasks.reading import answered, as_examples, read_hub, read_pair
from loram.tasks.task import Request, Splits

__all__ = ["PAPER", "SOURCE", "SUBJECTS", "load"]

PAPER = "2103.03874"
SOURCE = "EleutherAI/hendrycks_math"
SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)


def load(request: Request) -> Splits:
    """MATH's splits: of the hub (all subjects, or one as its configuration), or a folder.

    Raises:
        DataError: nothing there, a malformed row, or a test solution without a boxed answer.
    """
    source = request.source or SOURCE
    path = Path(source)
    if path.exists():
        train, test = read_pair(path)
    else:
        subjects = (request.config,) if request.config else SUBJECTS
        train, test = (
            [row for subject in subjects for row in read_hub(source, subject, split)]
            for split in ("train", "test")
        )
    return part(
        as_examples(train, f"{source}, train"),
        answered(as_examples(test, f"{source}, test"), boxed, r"\boxed{…}", f"{source}, test"),
        request,
        source,
    )
