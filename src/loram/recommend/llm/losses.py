"""What training minimises: the cross-entropy of the answer, or BCE on the logit of Yes."""

from collections.abc import Callable, Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from loram.recommend.llm.batch import IGNORED, collate
from loram.recommend.llm.examples import Example
from loram.recommend.llm.recommender import Recommender

__all__ = ["LOSSES", "Loss"]

Loss = Callable[[Recommender, Sequence[Example], bool, Sequence[int], int], Tensor]
"""(model, examples, hybrid prompts, word ids, padding id) → mean over the examples, 0-d."""


def _answer(
    model: Recommender, examples: Sequence[Example], hybrid: bool, words: Sequence[int], pad: int
) -> Tensor:
    """Mean over examples of the mean cross-entropy of an answer's tokens, in nats."""
    batch = collate(
        [each.prompt(hybrid) for each in examples],
        [each.answer for each in examples],
        [each.case.row for each in examples],
        pad,
    ).to(model.device)
    keep = max(len(each.answer) for each in examples) + 1
    logits = model(batch, keep=keep).logits[:, -keep:-1].float()
    labels = batch.labels[:, -(keep - 1) :]
    loss = F.cross_entropy(logits.mT, labels, ignore_index=IGNORED, reduction="none")
    return (loss.sum(1) / (labels != IGNORED).sum(1)).mean()


def _yes(
    model: Recommender, examples: Sequence[Example], hybrid: bool, words: Sequence[int], pad: int
) -> Tensor:
    """BCE of σ(logit of Yes) with the label (CoLLM, arXiv 2310.19488)."""
    batch = collate(
        [each.prompt(hybrid) for each in examples],
        [()] * len(examples),
        [each.case.row for each in examples],
        pad,
    ).to(model.device)
    logits = model(batch, keep=1).logits[:, -1, words[0]].float()
    labels = torch.tensor([float(each.case.label) for each in examples], device=logits.device)
    return F.binary_cross_entropy_with_logits(logits, labels)


LOSSES: MappingProxyType[str, Loss] = MappingProxyType({"answer": _answer, "yes": _yes})
