"""Options by likelihood against brute force; programs written greedily and drawn."""

import pytest
import torch

from loram.tasks import DataError, Example
from loram.tasks.task import Choice, Program
from loram.train.encode import encode, prompt_text
from loram.train.likelihood import option_likelihoods, right_answers
from loram.train.model import load_pretrained
from loram.train.sampling import write_texts

CHOICES = [
    Choice("How many?", ("the correct answer is one", "the correct answer is two, or more"), 0),
    Choice("And a much longer question of many words: is it so?", ("yes", "no", "maybe"), 2),
    Choice("Is it?", ("yes", "yes"), 1),
]


@pytest.fixture
def pretrained(tiny_model):
    return load_pretrained(str(tiny_model), torch.float32)


@torch.no_grad()
def brute_force(model, tokenizer, question: str, option: str) -> float:
    """One token at a time, in float64."""
    model = model.double()
    text = prompt_text(tokenizer, question, "plain")
    ids = tokenizer(text, add_special_tokens=False).input_ids
    total = 0.0
    for token in [*tokenizer(option).input_ids, tokenizer.eos_token_id]:
        scores = model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        total += float(scores[token])
        ids.append(token)
    return total


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_options_are_as_likely_as_their_tokens_one_by_one(pretrained, batch_size):
    model, tokenizer = pretrained
    done: list[int] = []
    got = option_likelihoods(
        model, tokenizer, CHOICES, "plain", 512, batch_size=batch_size, progress=done.append
    )
    assert sum(done) == len(CHOICES)
    assert got[2][0] == pytest.approx(got[2][1], abs=1e-5)
    for scores, choice in zip(got, CHOICES, strict=True):
        expected = [brute_force(model, tokenizer, choice.question, o) for o in choice.options]
        assert scores == pytest.approx(expected, rel=1e-5)


def test_a_long_question_loses_its_beginning_and_no_option_its_end(pretrained):
    model, tokenizer = pretrained
    short = 30
    (got,) = option_likelihoods(model, tokenizer, CHOICES[1:2], "plain", short)
    for score, option in zip(got, CHOICES[1].options, strict=True):
        (row,) = encode(tokenizer, [Example(CHOICES[1].question, option)], "plain", 512)
        assert len(row.input_ids) > short
        ids = row.input_ids[-short:]
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        size = len(tokenizer(option).input_ids) + 1
        expected = sum(float(scores[place - 1, ids[place]]) for place in range(-size, 0))
        assert score == pytest.approx(expected, rel=1e-4)
    with pytest.raises(DataError, match="raise --max-length"):
        option_likelihoods(model, tokenizer, CHOICES[:1], "plain", 5)


def test_training_is_on_the_right_option():
    assert right_answers(CHOICES)[1] == Example(CHOICES[1].question, "maybe")


PROBLEMS = [
    Program("def one():\n", "    return 1", "assert one() == 1", "one"),
    Program("Write a function that returns two, whatever it is given.", "x", "y", None),
]


def test_one_program_is_the_greedy_one_whatever_the_batch(pretrained):
    model, tokenizer = pretrained
    together = write_texts(model, tokenizer, PROBLEMS, "plain", max_new_tokens=6)
    alone = [
        write_texts(model, tokenizer, [each], "plain", max_new_tokens=6)[0] for each in PROBLEMS
    ]
    assert together == alone
    assert [len(each) for each in together] == [1, 1]


@pytest.mark.parametrize("samples", [1, 3])
def test_drawing_leaves_mode_and_random_state(pretrained, samples):
    model, tokenizer = pretrained
    model.train()
    before = torch.get_rng_state()
    write_texts(model, tokenizer, PROBLEMS, "plain", samples=samples, max_new_tokens=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


def test_several_programs_are_drawn_by_their_seed(pretrained):
    model, tokenizer = pretrained

    def drawn(seed: int) -> list[list[str]]:
        return write_texts(
            model, tokenizer, PROBLEMS, "plain", samples=4, seed=seed, max_new_tokens=8
        )

    first = drawn(0)
    assert [len(each) for each in first] == [4, 4]
    assert len(set(first[0])) > 1
    assert drawn(0) == first
    assert drawn(7) != first
