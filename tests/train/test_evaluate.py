"""Judging: held-out loss against a float64 oracle, and greedy answers."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from loram.tasks import Example, load
from loram.train.encode import IGNORED, encode, prompt_text
from loram.train.evaluate import held_out_loss, write_answers
from loram.train.model import load_pretrained


@pytest.fixture
def pretrained(tiny_model):
    return load_pretrained(str(tiny_model), torch.float32)


@pytest.fixture(scope="module")
def examples():
    """Of many lengths, not in the order of them."""
    return [
        *load("wordmath", train_size=1, held_out_size=5, seed=0).held_out,
        Example("1 + 1?", "#### 2"),
        Example("And what, if I may ask, is 1 + 2?", "3 of course, as anyone can see\n#### 3"),
    ]


@torch.no_grad()
def oracle(model, encoded) -> float:
    """One example at a time, in float64, without padding."""
    model = model.double()
    total, tokens = 0.0, 0
    for ids, labels in encoded:
        logits = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        for place in range(1, len(ids)):
            if labels[place] != IGNORED:
                total -= float(logits[place - 1, labels[place]])
                tokens += 1
    return total / tokens


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_held_out_loss_is_the_mean_over_answer_tokens(pretrained, examples, batch_size):
    model, tokenizer = pretrained
    encoded = encode(tokenizer, examples, "plain", 512)
    done: list[int] = []
    loss = held_out_loss(
        model, encoded, tokenizer.pad_token_id, batch_size=batch_size, progress=done.append
    )
    assert sum(done) == len(examples)
    assert loss == pytest.approx(oracle(model, encoded), rel=1e-6)


@pytest.mark.parametrize("training", [False, True])
def test_judging_leaves_the_mode_and_the_random_state(pretrained, examples, training):
    model, tokenizer = pretrained
    model.train(training)
    before = torch.get_rng_state()
    held_out_loss(model, encode(tokenizer, examples[-2:], "plain", 512), tokenizer.pad_token_id)
    write_answers(model, tokenizer, examples[-2:], "plain", max_new_tokens=2)
    assert model.training is training
    assert torch.equal(torch.get_rng_state(), before)


def test_answers_keep_the_order_and_do_not_depend_on_the_batch(pretrained, examples):
    model, tokenizer = pretrained
    done: list[int] = []
    together = write_answers(
        *(model, tokenizer, examples, "plain"),
        max_new_tokens=12,
        batch_size=4,
        progress=done.append,
    )
    assert done == [4, 3]
    assert [(each.question, each.reference) for each in together] == examples
    alone = [
        write_answers(model, tokenizer, [each], "plain", max_new_tokens=12)[0] for each in examples
    ]
    assert together == alone
    assert len({each.written for each in alone}) > 1  # the model tells the questions apart


@torch.no_grad()
def test_answers_are_the_likeliest_tokens(pretrained, examples):
    model, tokenizer = pretrained
    text = prompt_text(tokenizer, examples[0].question, "plain")
    ids = tokenizer(text, add_special_tokens=False).input_ids
    start = len(ids)
    for _ in range(6):
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    (one,) = write_answers(model, tokenizer, examples[:1], "plain", max_new_tokens=6)
    assert one.written == tokenizer.decode(ids[start:], skip_special_tokens=True).strip()


def chain(tokenizer, says: str, **config) -> nn.Module:
    """A model that answers `: ` with `says`, the end token, and `says` again, for ever."""
    torch.manual_seed(0)
    size = len(tokenizer)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size,
            hidden_size=size,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            **config,
        )
    ).eval()
    follow = {tokenizer(" ").input_ids[-1]: None, tokenizer.eos_token_id: None}
    tokens = [*tokenizer(says).input_ids, tokenizer.eos_token_id]
    assert len(set(tokens)) == len(tokens)
    nxt = dict.fromkeys(follow, tokens[0]) | dict(pairwise(tokens))
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        for one, other in nxt.items():
            model.lm_head.weight[other, one] = 1.0
    return model


def test_right_answers_are_told_from_wrong_ones(pretrained):
    tokenizer = pretrained.tokenizer
    model = chain(tokenizer, "#### 3", eos_token_id=tokenizer.eos_token_id)
    got = write_answers(
        *(model, tokenizer, [Example("1 + 2?", "x\n#### 3"), Example("2 + 2?", "#### 4")], "plain")
    )
    assert [(each.written, each.correct) for each in got] == [("#### 3", True), ("#### 3", False)]


@pytest.mark.parametrize("models_own", [None, 9])
def test_writing_stops_at_the_end_token_that_was_trained(pretrained, models_own):
    """The tokenizer's, as `encode` puts it after every answer, whatever the model's config says."""
    tokenizer = pretrained.tokenizer
    model = chain(tokenizer, "#### 3", eos_token_id=models_own)
    (one,) = write_answers(
        *(model, tokenizer, [Example("1 + 2?", "#### 3")], "plain"), max_new_tokens=20
    )
    assert one.written == "#### 3"
