"""Tokens of questions and answers: the loss sees the answer and the end token, nothing else."""

import pytest
import torch
from transformers import AutoTokenizer

from loram.tasks import DataError, Example
from loram.train.encode import IGNORED, Collate, Encoded, encode, prompt_text

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
EXAMPLES = [
    Example("What is 1 plus 2?", "1 + 2 = 3\n#### 3"),
    Example("Ünïcode, «quotes»\nand lines?", "#### 1,234"),
    Example("A <end> in the question?", " leading space"),
]


@pytest.fixture
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def chat(tokenizer):
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.mark.parametrize("prompt", ["plain", "chat"])
@pytest.mark.parametrize("example", EXAMPLES)
def test_labels_are_the_answer_and_the_end_token(chat, example, prompt):
    (one,) = encode(chat, [example], prompt, max_length=200)
    learnt = [label for label in one.labels if label != IGNORED]
    start = len(one.labels) - len(learnt)
    assert one.labels[:start] == [IGNORED] * start  # nothing after it is ignored
    assert learnt == one.input_ids[start:]
    assert chat.decode(one.input_ids[:start]) == prompt_text(chat, example.question, prompt)
    assert chat.decode(learnt[:-1]) == example.answer
    assert learnt[-1] == chat.eos_token_id


def test_prompts(tokenizer, chat):
    assert prompt_text(chat, "q?", "plain") == "Question: q?\nAnswer: "
    assert prompt_text(chat, "q?", "chat") == "<user>q?<assistant>"
    assert prompt_text(chat, "q?", "auto") == "<user>q?<assistant>"


def test_auto_is_plain_without_a_template(tokenizer):
    assert prompt_text(tokenizer, "q?", "auto") == prompt_text(tokenizer, "q?", "plain")
    with pytest.raises(DataError, match=r"no chat template.*plain"):
        prompt_text(tokenizer, "q?", "chat")


def test_what_is_too_long_loses_its_end(tokenizer):
    (whole,) = encode(tokenizer, EXAMPLES[:1], "plain", max_length=512)
    question = whole.labels.count(IGNORED)
    for length in range(question + 1, len(whole.input_ids) + 2):
        (cut,) = encode(tokenizer, EXAMPLES[:1], "plain", max_length=length)
        assert cut == Encoded(whole.input_ids[:length], whole.labels[:length])
    with pytest.raises(DataError, match=rf"example 2: .* {question} tokens .*--max-length"):
        encode(tokenizer, [Example("?", "!"), EXAMPLES[0]], "plain", max_length=question)


@pytest.mark.parametrize("pad", [0, 7])
def test_batches_are_padded_on_the_right(pad):
    batch = [
        Encoded([5, 6, 7, 8], [IGNORED, IGNORED, 7, 8]),
        Encoded([9], [9]),
        Encoded([1, 2], [IGNORED, 2]),
    ]
    got = Collate(pad)(batch)
    expected = {
        "input_ids": [[5, 6, 7, 8], [9, pad, pad, pad], [1, 2, pad, pad]],
        "attention_mask": [[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]],
        "labels": [
            [IGNORED, IGNORED, 7, 8],
            [9, IGNORED, IGNORED, IGNORED],
            [IGNORED, 2, IGNORED, IGNORED],
        ],
    }
    assert got.keys() == expected.keys()
    for name, rows in expected.items():
        assert torch.equal(got[name], torch.tensor(rows)), name
        assert got[name].dtype == torch.int64
