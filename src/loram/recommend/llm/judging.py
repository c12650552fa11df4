"""Scores of examples, and their metrics with intervals."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from loram.recommend.intervals import Interval, judge, mean_interval
from loram.recommend.llm.examples import Example
from loram.recommend.llm.recommender import Recommender
from loram.recommend.llm.scoring import log_likelihoods, yes_no
from loram.recommend.ranking import of_candidates

__all__ = ["KS", "Scorer", "intervals", "places"]

KS = (1, 3, 5, 10)
Progress = Callable[[int], None]


class Scorer:
    """Scores examples as a run's settings say."""

    def __init__(self, words: Sequence[int], pad: int, *, yes_alone: bool, batch_size: int) -> None:
        """Keep what does not change.

        Args:
            words: ids of Yes and No; empty where candidates are ranked.
            pad: id of the padding token.
            yes_alone: score by the logit of Yes alone.
            batch_size: prompts at a time.
        """
        self._words, self._pad = words, pad
        self._yes_alone, self._batch_size = yes_alone, batch_size

    def __call__(
        self,
        model: Recommender,
        examples: Sequence[Example],
        *,
        hybrid: bool,
        progress: Progress = lambda n: None,
    ) -> Tensor:
        """Probabilities of Yes (examples,), or log-likelihoods (examples, candidates); float64."""
        if self._words:
            logits = yes_no(
                model,
                [each.prompt(hybrid) for each in examples],
                [each.case.row for each in examples],
                self._words,
                self._pad,
                batch_size=self._batch_size,
                progress=progress,
            ).double()
            return logits[:, 0].sigmoid() if self._yes_alone else logits.softmax(1)[:, 0]
        rows: list[Tensor] = []
        for each in examples:
            prompt, row = each.prompt(hybrid), each.case.row
            rows.append(log_likelihoods(model, prompt, row, each.candidates, self._pad))
            progress(1)
        return torch.stack(rows).double()

    def one_number(self, model: Recommender, examples: Sequence[Example], *, hybrid: bool) -> float:
        """What early stopping goes by: AUC, or NDCG@5 of candidates."""
        scores = self(model, examples, hybrid=hybrid)
        return next(iter(intervals(examples, scores, resamples=1, first="ndcg@5").values())).value


def places(examples: Sequence[Example]) -> np.ndarray:
    """(examples,) of the target among its candidates."""
    return np.asarray([each.case.candidates.index(each.case.target) for each in examples])


def intervals(
    examples: Sequence[Example],
    scores: Tensor,
    *,
    probabilities: bool = True,
    resamples: int = 1000,
    first: str | None = None,
) -> dict[str, Interval]:
    """Metrics with intervals by bootstrap over users.

    Args:
        examples: that were scored.
        scores: (examples,), or (examples, candidates).
        probabilities: whether (examples,) scores are such, and have a log-loss.
        resamples: draws.
        first: metric of candidates to put first.

    Returns:
        auc, uauc and log_loss, or hr@k and ndcg@k of candidates, over all examples.
    """
    user = np.asarray([each.case.user for each in examples])
    values = scores.numpy()
    if scores.ndim == 1:
        label = np.asarray([float(each.case.label) for each in examples])
        return judge(label, values, user, probabilities=probabilities, resamples=resamples)
    found = of_candidates(places(examples), values, KS)
    names = [f"{metric}@{k}" for metric in ("hr", "ndcg") for k in KS]
    names.sort(key=lambda name: name != first)
    return {name: mean_interval(found[name], user, resamples=resamples) for name in names}
