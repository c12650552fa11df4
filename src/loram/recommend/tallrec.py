"""TALLRec's own samples of movies, row for row (arXiv 2305.00447).

Users in the order in which they first appear, each user's rows by time (ties in file order), every
window of ten previous items with the next as target. Of the list of all of them the last 10,000,
cut 8000/1000/1000. Train and valid share a user, so do valid and test; train and test none.
"""

from typing import NamedTuple

import numpy as np

from loram.recommend.errors import RecommendError
from loram.recommend.interactions import Interactions
from loram.recommend.samples import Samples, samples

__all__ = ["SIZES", "Parts", "tallrec"]

SIZES = (8000, 1000, 1000)


class Parts(NamedTuple):
    """Samples to learn from, to choose by, to be judged by."""

    train: Samples
    valid: Samples
    test: Samples


def tallrec(data: Interactions, *, length: int = 10, sizes: tuple[int, int, int] = SIZES) -> Parts:
    """The three parts of TALLRec's script, deterministic.

    Args:
        data: with times and labels; the published ones are rating > 3 of ml-100k.
        length: of the windows.
        sizes: of train, valid, test, taken from the end.

    Raises:
        RecommendError: no times, no labels, or too few windows.
    """
    if data.label is None:
        data = data.liked()
    # Codes are in order of first appearance unless the vocabulary was made otherwise.
    _, first = np.unique(data.user, return_index=True)
    appearance = np.empty(len(data.users), dtype=np.int64)
    appearance[np.unique(data.user)] = first
    order = np.lexsort((data.times(), appearance[data.user]))
    user = data.user[order]
    begins = np.r_[True, user[1:] != user[:-1]]
    index = np.arange(len(order))
    nth = index - np.maximum.accumulate(np.where(begins, index, 0))
    windows = order[nth >= length]
    if len(windows) < sum(sizes):
        raise RecommendError(
            f"{data.name}: expected at least {sum(sizes)} windows of {length} + 1 interactions, "
            f"got {len(windows)}: name smaller sizes"
        )
    windows = windows[len(windows) - sum(sizes) :]
    cut = np.split(windows, np.cumsum(sizes)[:-1])
    return Parts(*(samples(data, rows, length=length) for rows in cut))
