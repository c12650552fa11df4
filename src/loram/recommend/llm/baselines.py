"""What needs no language model, to print first: untrained counts, and the encoder by itself."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from loram.recommend.interactions import UNKNOWN
from loram.recommend.llm.data import Asked
from loram.recommend.llm.examples import Example
from loram.recommend.llm.judging import intervals

__all__ = ["baselines"]

Metrics = dict[str, list[float]]


def baselines(
    asked: Asked, tables: Mapping[str, Tensor], test: Sequence[Example], resamples: int
) -> dict[str, Metrics]:
    """Metrics as [value, low, high], by name.

    Args:
        asked: what was learnt from. Counts are of the whole train part, also where few shots are
            drawn.
        tables: the encoder's vectors.
        test: judged examples.
        resamples: draws of the bootstrap.
    """
    judged = partial(intervals, test, probabilities=False, resamples=resamples)
    ranked = bool(test[0].case.candidates)
    found = _of_candidates(asked, tables, test) if ranked else _of_labels(asked)
    return {
        name: {metric: list(each) for metric, each in judged(scores).items()}
        for name, scores in found.items()
    }


def _of_labels(asked: Asked) -> dict[str, Tensor]:
    from loram.recommend.floors import floors

    found = floors(asked.known, asked.test.samples)
    return {name: torch.from_numpy(np.asarray(score)).double() for name, score in found.items()}


def _of_candidates(
    asked: Asked, tables: Mapping[str, Tensor], test: Sequence[Example]
) -> dict[str, Tensor]:
    """Popularity, and the product of the sequence's (or user's) vector with the candidates'."""
    met = np.bincount(asked.data.item[asked.learnt], minlength=len(asked.data.items))
    items = torch.tensor([each.case.candidates for each in test])
    found = {"popularity": torch.from_numpy(met).double()[items]}
    whose = next((kind for kind in ("sequence", "user") if kind in tables), None)
    if whose is not None and "item" in tables:
        rows = [c.row if whose == "sequence" else c.user for c in (each.case for each in test)]
        table = torch.cat([tables[whose], torch.zeros_like(tables[whose][:1])])
        query = table[[UNKNOWN if not 0 <= row < len(tables[whose]) else row for row in rows]]
        found["the encoder alone"] = (tables["item"][items] @ query[..., None])[..., 0].double()
    return found
