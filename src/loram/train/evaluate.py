"""Judging a model: held-out loss on the answers, and exact match of what it writes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from loram.tasks import Example, exact_match
from loram.train.encode import IGNORED, Collate, Prompt
from loram.train.sampling import write_texts

__all__ = ["Written", "held_out_loss", "write_answers"]

Progress = Callable[[int], None]


class Written(NamedTuple):
    """One held-out question, the right answer, what the model wrote, and whether it is right."""

    question: str
    reference: str
    written: str
    correct: bool


@torch.no_grad()
def held_out_loss(
    model: Any,
    encoded: Sequence[Any],
    pad_token_id: int,
    *,
    batch_size: int = 8,
    progress: Progress = lambda n: None,
    collate: Callable[[Sequence[Any]], Mapping[str, Tensor]] | None = None,
) -> float:
    """Mean cross-entropy per answer token, in nats, over all examples together.

    Args:
        model: causal language model; left in the mode it was in.
        encoded: examples.
        pad_token_id: of the tokenizer.
        batch_size: examples at a time, of similar length.
        progress: told the number of examples done.
        collate: a batch of examples as the model takes it; by default that of `Encoded`.
    """
    collate = collate or Collate(pad_token_id)
    was_training = model.training
    model.eval()
    total, tokens = 0.0, 0
    # By length, so that little is padding; the mean does not depend on the order.
    ordered = sorted(encoded, key=lambda each: len(each.input_ids))
    for start in range(0, len(ordered), batch_size):
        part = ordered[start : start + batch_size]
        batch = {name: value.to(model.device) for name, value in collate(part).items()}
        labels = batch.pop("labels")[:, 1:]
        hidden = model(**batch).logits[:, :-1]
        asked = labels != IGNORED
        loss = F.cross_entropy(hidden[asked].float(), labels[asked], reduction="sum")
        total, tokens = total + float(loss), tokens + int(asked.sum())
        progress(len(part))
    model.train(was_training)
    return total / tokens


def write_answers(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    prompt: Prompt,
    *,
    max_new_tokens: int = 192,
    batch_size: int = 16,
    right: Callable[[str, str], bool] = exact_match,
    progress: Progress = lambda n: None,
) -> list[Written]:
    """Greedy answers to the questions, each judged against the right one.

    Args:
        model: causal language model; left in the mode it was in.
        tokenizer: its tokenizer.
        examples: questions and right answers.
        prompt: as in training.
        max_new_tokens: an answer is cut there.
        batch_size: questions at a time, of similar length.
        right: (written, reference) → whether it is right.
        progress: told the number of questions done.
    """
    texts = write_texts(
        model,
        tokenizer,
        examples,
        prompt,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        progress=progress,
    )
    return [
        Written(question, reference, text.strip(), right(text, reference))
        for (question, reference), (text,) in zip(examples, texts, strict=True)
    ]
