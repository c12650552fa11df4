"""Scores by a language model: Yes against No, and the likelihood of each candidate's text.

What prompts share at their beginning is read once and kept as a key-value cache, and what is left
is read in batches of similar length. Both scorers take `cached=False`, which reads every prompt
whole, and give the same numbers to rounding.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from loram.recommend.llm.batch import IGNORED, collate
from loram.recommend.llm.prompt import PromptError, Tokens
from loram.recommend.llm.recommender import Recommender

__all__ = ["log_likelihoods", "shared_prefix", "word_ids", "yes_no"]

Progress = Callable[[int], None]
_WORTH = 4  # tokens: a shorter prefix is not worth a pass of its own


def word_ids(tokenizer: Any, words: Sequence[str] = ("Yes", "No")) -> tuple[int, ...]:
    """The token of each word, as the tokenizer has it.

    Raises:
        PromptError: a word is not a single token, or two words have the same.
    """
    found = [tokenizer(word, add_special_tokens=False).input_ids for word in words]
    if any(len(ids) != 1 for ids in found):
        seen = ", ".join(f"{w!r} {len(ids)}" for w, ids in zip(words, found, strict=True))
        raise PromptError(
            f"expected answers of one token each, and the tokenizer makes of {seen}: choose words "
            "that are single tokens (the setting words)"
        )
    ids = tuple(ids[0] for ids in found)
    if len(set(ids)) < len(ids):
        raise PromptError(f"the tokenizer has one token for several of the words {tuple(words)}")
    return ids


def shared_prefix(prompts: Sequence[Tokens]) -> int:
    """How many tokens and slots all prompts begin with; a token of each is left over."""
    first, limit = prompts[0], min(map(len, prompts)) - 1
    alike = (all(p[i] == first[i] for p in prompts) for i in range(limit))
    return next((i for i, same in enumerate(alike) if not same), max(limit, 0))


@torch.no_grad()
def yes_no(
    model: Recommender,
    prompts: Sequence[Tokens],
    rows: Sequence[int],
    words: Sequence[int],
    pad: int,
    *,
    batch_size: int = 16,
    cached: bool = True,
    progress: Progress = lambda n: None,
) -> Tensor:
    """Logits of the words after each prompt: softmax over them is the score.

    Args:
        model: left in the mode it was in.
        prompts: token ids and slots.
        rows: of the cases' vectors.
        words: token ids.
        pad: id of the padding token.
        batch_size: prompts at a time.
        cached: read once what all prompts share. Not under gates, which differ between cases.
        progress: told how many are done.

    Returns:
        (prompts, words), float32, on the CPU.
    """
    shared = shared_prefix(prompts) if cached and model.router is None else 0
    scores = torch.empty(len(prompts), len(words))
    with _evaluating(model):
        shared, past = _read(model, prompts[0][:shared], rows[0], pad)
        for part in _by_length([len(p) for p in prompts], batch_size):
            batch = collate(
                [prompts[i][shared:] for i in part],
                [[]] * len(part),
                [rows[i] for i in part],
                pad,
                start=shared,
            ).to(model.device)
            logits = model(batch, keep=1, past=_for(past, len(part))).logits
            scores[part] = logits[:, -1, list(words)].float().cpu()
            progress(len(part))
    return scores


@torch.no_grad()
def log_likelihoods(
    model: Recommender,
    prompt: Tokens,
    row: int,
    answers: Sequence[Sequence[int]],
    pad: int,
    *,
    batch_size: int = 32,
    cached: bool = True,
) -> Tensor:
    """log p(answer | prompt) of each answer, the sum over its tokens.

    Args:
        model: left in the mode it was in.
        prompt: token ids and slots.
        row: of the case's vectors.
        answers: token ids, each with the end token, so that a title is not judged by its beginning.
        pad: id of the padding token.
        batch_size: answers at a time.
        cached: read the prompt once.

    Returns:
        (answers,), float32, on the CPU. The same answer twice gets the same value.
    """
    likelihoods = torch.empty(len(answers))
    with _evaluating(model):
        shared, past = _read(model, prompt[:-1] if cached else (), row, pad)
        for part in _by_length([len(answer) for answer in answers], batch_size):
            batch = collate(
                [prompt[shared:]] * len(part),
                [answers[i] for i in part],
                [row] * len(part),
                pad,
                start=shared,
            ).to(model.device)
            keep = max(len(answers[i]) for i in part) + 1
            logits = model(batch, keep=keep, past=_for(past, len(part))).logits[:, -keep:-1]
            labels = batch.labels[:, -(keep - 1) :]
            asked = labels != IGNORED
            chosen = (
                logits.float().log_softmax(-1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
            )
            likelihoods[part] = (chosen * asked).sum(1).cpu()
    return likelihoods


@contextmanager
def _evaluating(model: Recommender) -> Any:
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was)


def _read(model: Recommender, prefix: Tokens, row: int, pad: int) -> tuple[int, Any]:
    """Length and cache of a prefix; 0 and None where it is not worth it or can't be kept."""
    if len(prefix) < _WORTH:
        return 0, None
    batch = collate([prefix], [[]], [row], pad).to(model.device)
    past = model(batch, keep=1, use_cache=True).past_key_values
    if not hasattr(past, "batch_repeat_interleave"):
        return 0, None
    return len(prefix), past


def _for(past: Any, examples: int) -> Any:
    """The cache once for each example; a copy, since a model writes into what it is given."""
    if past is None:
        return None
    mine = copy.deepcopy(past)
    mine.batch_repeat_interleave(examples)
    return mine


def _by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Indices in batches of similar length, the longest first: memory runs out at once, if so."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    return [order[i : i + size] for i in range(0, len(order), size)]
