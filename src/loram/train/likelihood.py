"""How likely a model finds every option of a question, as the answer it would write."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from loram.tasks import DataError, Example
from loram.tasks.task import Choice
from loram.train.encode import IGNORED, Collate, Encoded, Prompt, encode

__all__ = ["option_likelihoods", "right_answers"]

_UNCUT = 2**31


def right_answers(choices: Sequence[Choice]) -> list[Example]:
    """What is trained on: every question with its right option as the answer."""
    return [Example(each.question, each.options[each.right]) for each in choices]


@torch.no_grad()
def option_likelihoods(
    model: Any,
    tokenizer: Any,
    choices: Sequence[Choice],
    prompt: Prompt,
    max_length: int,
    *,
    batch_size: int = 16,
    progress: Callable[[int], None] = lambda n: None,
) -> list[list[float]]:
    """Log-likelihood, in nats, of each option with the end token after it, given the question.

    Args:
        model: causal language model; left in the mode it was in.
        tokenizer: its tokenizer.
        choices: questions with their options.
        prompt: as in training.
        max_length: of question and option together; a longer question loses its beginning.
        batch_size: options at a time; those of one question stay together.
        progress: told the number of questions done.

    Raises:
        DataError: an option alone has max_length tokens or more.
    """
    was_training = model.training
    model.eval()
    collate = Collate(tokenizer.pad_token_id)
    groups = [_group(tokenizer, each, prompt, max_length) for each in choices]
    # By length, so that little is padding; likelihoods do not depend on the order.
    order = sorted(range(len(groups)), key=lambda i: max(len(e.input_ids) for e in groups[i]))
    found: dict[int, list[float]] = {}
    for part in _parts(order, [len(group) for group in groups], batch_size):
        rows = [row for i in part for row in groups[i]]
        batch = {name: value.to(model.device) for name, value in collate(rows).items()}
        labels = batch.pop("labels")[:, 1:]
        logits = model(**batch).logits[:, :-1]
        asked = labels != IGNORED
        summed = torch.zeros(labels.shape, dtype=torch.float32, device=logits.device)
        summed[asked] = F.cross_entropy(logits[asked].float(), labels[asked], reduction="none")
        values = iter((-summed.double().sum(1)).tolist())
        for i in part:
            found[i] = [next(values) for _ in groups[i]]
        progress(len(part))
    model.train(was_training)
    return [found[i] for i in range(len(groups))]


def _group(tokenizer: Any, choice: Choice, prompt: Prompt, max_length: int) -> list[Encoded]:
    """Tokens of every option after its question."""
    examples = [Example(choice.question, option) for option in choice.options]
    rows: list[Encoded] = []
    for ids, labels in encode(tokenizer, examples, prompt, _UNCUT):
        if sum(label != IGNORED for label in labels) >= max_length:
            raise DataError(
                f"an option of {choice.question[:60]!r} alone has {max_length} tokens or more, the "
                "max_length: raise --max-length"
            )
        rows.append(Encoded(ids[-max_length:], labels[-max_length:]))
    return rows


def _parts(order: Sequence[int], sizes: Sequence[int], batch_size: int) -> list[list[int]]:
    """Questions in batches of at most `batch_size` options, or of one question."""
    parts: list[list[int]] = []
    room = 0
    for i in order:
        if sizes[i] > room or not parts:
            parts.append([])
            room = batch_size
        parts[-1].append(i)
        room -= sizes[i]
    return parts
