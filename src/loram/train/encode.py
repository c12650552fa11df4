"""Questions and answers as tokens: the loss sees the answer only."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from loram.tasks import DataError, Example

__all__ = ["Collate", "Encoded", "Prompt", "encode", "prompt_text"]

Prompt = Literal["auto", "chat", "plain"]
IGNORED = -100


class Tokens(Protocol):
    """Anything with the ids of a text, and labels that are −100 where nothing is learnt."""

    @property
    def input_ids(self) -> list[int]: ...

    @property
    def labels(self) -> list[int]: ...


class Encoded(NamedTuple):
    """Token ids of a question and its answer; labels are −100 on the question."""

    input_ids: list[int]
    labels: list[int]


def prompt_text(tokenizer: Any, question: str, prompt: Prompt) -> str:
    """What the model is shown before it answers.

    Args:
        tokenizer: of the model.
        question: the user's.
        prompt: `chat`, the tokenizer's chat template; `plain`, `Question: … Answer: `; `auto`, chat
            if there is a template.

    Raises:
        DataError: chat is asked for and the tokenizer has no template.
    """
    if prompt == "auto":
        prompt = "chat" if tokenizer.chat_template else "plain"
    if prompt == "plain":
        # A model that was pretrained with a beginning token gets it here too.
        starts = tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]
        return f"{tokenizer.bos_token if starts else ''}Question: {question}\nAnswer: "
    if not tokenizer.chat_template:
        raise DataError("this tokenizer has no chat template: use prompt 'plain'")
    messages = [{"role": "user", "content": question}]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


def encode(
    tokenizer: Any, examples: Sequence[Example], prompt: Prompt, max_length: int
) -> list[Encoded]:
    """Tokens of every example, the end token included in the answer.

    Raises:
        DataError: no token of an answer fits into max_length.
    """
    encoded: list[Encoded] = []
    for number, example in enumerate(examples, start=1):
        text = prompt_text(tokenizer, example.question, prompt)
        question = tokenizer(text, add_special_tokens=False).input_ids
        answer = tokenizer(example.answer, add_special_tokens=False).input_ids
        ids = [*question, *answer, tokenizer.eos_token_id][:max_length]
        if len(question) >= max_length:
            raise DataError(
                f"example {number}: the question alone has {len(question)} tokens and max_length "
                f"is {max_length}, so nothing of the answer is left to learn: raise --max-length"
            )
        encoded.append(Encoded(ids, [IGNORED] * len(question) + ids[len(question) :]))
    return encoded


class Collate:
    """Pads a batch on the right to its longest member."""

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, batch: Sequence[Tokens]) -> dict[str, Tensor]:
        """input_ids, attention_mask and labels, each (examples, longest), int64."""
        width = max(len(each.input_ids) for each in batch)

        def padded(rows: list[list[int]], value: int) -> Tensor:
            return torch.tensor([row + [value] * (width - len(row)) for row in rows])

        ids = [each.input_ids for each in batch]
        return {
            "input_ids": padded(ids, self.pad_token_id),
            "attention_mask": padded([[1] * len(row) for row in ids], 0),
            "labels": padded([each.labels for each in batch], IGNORED),
        }
