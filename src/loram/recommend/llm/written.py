"""What a model writes, read as one of the candidates: LLaRA's and iLoRA's way to judge."""

import string
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from loram.recommend.llm.batch import collate
from loram.recommend.llm.prompt import Tokens
from loram.recommend.llm.recommender import Recommender

__all__ = ["Choices", "chosen", "judge", "write"]


class Choices(NamedTuple):
    """How written answers fared.

    Attributes:
        valid: part of the answers that name exactly one candidate (ValidRatio).
        correct: part of *all* answers that name the right one, HR@1. An invalid answer is wrong;
            the authors' code divides by the valid answers in places.
    """

    valid: float
    correct: float


def chosen(answer: str, titles: Sequence[str]) -> int | None:
    """Index of the one candidate that an answer names; None for none, or several.

    Case, and punctuation and spaces around, do not count. An answer that is a title names it; else
    the titles found in it count, but for those found within another one that is found.
    """
    wanted, plain = _plain(answer), [_plain(title) for title in titles]
    exact = [i for i, title in enumerate(plain) if title == wanted]
    found = exact or [i for i, title in enumerate(plain) if title and title in wanted]
    outer = [
        i for i in found if not any(plain[i] != plain[j] and plain[i] in plain[j] for j in found)
    ]
    return outer[0] if len(outer) == 1 else None


def judge(answers: Sequence[str], titles: Sequence[Sequence[str]], right: Sequence[int]) -> Choices:
    """ValidRatio and HR@1 of written answers, over all of them.

    Args:
        answers: as written.
        titles: of each answer's candidates.
        right: index of the right one among them.
    """
    named = [chosen(answer, each) for answer, each in zip(answers, titles, strict=True)]
    correct = sum(mine == wanted for mine, wanted in zip(named, right, strict=True))
    valid = sum(mine is not None for mine in named)
    return Choices(valid / len(answers), correct / len(answers))


@torch.no_grad()
def write(
    model: Recommender,
    tokenizer: Any,
    prompts: Sequence[Tokens],
    rows: Sequence[int],
    *,
    max_new_tokens: int = 32,
    batch_size: int = 16,
    progress: Callable[[int], None] = lambda n: None,
) -> list[str]:
    """Greedy answers.

    Args:
        model: left in the mode it was in.
        tokenizer: its tokenizer.
        prompts: token ids and slots.
        rows: of the cases' vectors.
        max_new_tokens: an answer is cut there.
        batch_size: prompts at a time, of similar length.
        progress: told how many are done.
    """
    was = model.training
    model.eval()
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers: dict[int, str] = {}
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        batch = collate(
            [prompts[i] for i in part],
            [[]] * len(part),
            [rows[i] for i in part],
            tokenizer.pad_token_id,
        ).to(model.device)
        with model.gated(batch.rows):
            ids = model.llm.generate(
                inputs_embeds=model.embedded(batch),
                attention_mask=batch.mask,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        answers |= {i: text.strip() for i, text in zip(part, texts, strict=True)}
        progress(len(part))
    model.train(was)
    return [answers[i] for i in range(len(prompts))]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(string.punctuation + " ")
