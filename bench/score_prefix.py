"""Scores with the shared prefix cached against the naive way: how much faster, and the same?

    python bench/score_prefix.py                       # SmolLM2, 3 prompts of 20 candidates
    python bench/score_prefix.py --model FOLDER --prompts 20

Naive reads every prompt whole, for each candidate anew. Titles are made here: no data is needed.
"""

import argparse
import itertools
import json
import random
import time
from collections.abc import Callable

import torch

from loram.recommend.llm.batch import collate
from loram.recommend.llm.case import Case
from loram.recommend.llm.prompt import Prompter, Template
from loram.recommend.llm.recommender import Recommender
from loram.recommend.llm.scoring import log_likelihoods, word_ids, yes_no
from loram.recommend.llm.settings import read_yaml
from loram.recommend.llm.vectors import Vectors
from loram.train.model import load_pretrained

FIRST = ("Red", "Old", "Last", "Silent", "Broken", "Golden", "Lost", "Dark", "Little")
SECOND = (
    "River",
    "House",
    "Summer",
    "Train",
    "Garden",
    "Letter",
    "Winter",
    "Bridge",
    "Song",
    "Sea",
)
TITLES = [f"The {a} {b}" for a, b in itertools.product(FIRST, SECOND)]


def cases(number: int, candidates: int) -> list[Case]:
    draw = random.Random(0)
    made: list[Case] = []
    for i in range(number):
        items = draw.sample(range(len(TITLES)), 10 + max(candidates, 1))
        liked = tuple(draw.random() < 0.5 for _ in range(10))
        made.append(Case(i, tuple(items[:10]), liked, items[10], 1, tuple(items[10:])))
    return made


def timed(work: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def report(
    what: str, naive: tuple[torch.Tensor, float], cached: tuple[torch.Tensor, float]
) -> None:
    row = {
        "scorer": what,
        "naive_seconds": round(naive[1], 3),
        "cached_seconds": round(cached[1], 3),
        "speedup": round(naive[1] / cached[1], 2),
        "largest_difference": float((naive[0] - cached[0]).abs().max()),
    }
    print(json.dumps(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--words", nargs=2, default=["Yes", "No"])
    options = parser.parse_args()
    llm, tokenizer = load_pretrained(options.model, torch.float32)
    model = Recommender(llm.eval(), Vectors({}))
    pad = tokenizer.pad_token_id

    def write(name: str, asked: list[Case]) -> list[tuple]:
        template: Template = read_yaml(name).prompt.text_template
        return [Prompter(tokenizer, template, TITLES, 2048)(case) for case in asked]

    asked = cases(options.prompts, options.candidates)
    prompts = write("llara-small", asked)
    end = [tokenizer.eos_token_id]
    answers = [
        [tokenizer(TITLES[i], add_special_tokens=False).input_ids + end for i in case.candidates]
        for case in asked
    ]

    def rank(cached: bool) -> torch.Tensor:
        found = [
            log_likelihoods(model, p, 0, a, pad, cached=cached)
            for p, a in zip(prompts, answers, strict=True)
        ]
        return torch.stack(found)

    model(collate([prompts[0]], [[]], [0], pad))  # warm up
    report(
        f"rank {options.candidates} candidates",
        timed(lambda: rank(False)),
        timed(lambda: rank(True)),
    )

    yes = write("tallrec-small", cases(16 * options.prompts, 1))
    words, rows = word_ids(tokenizer, options.words), [0] * len(yes)

    def judge(cached: bool) -> torch.Tensor:
        return yes_no(model, yes, rows, words, pad, cached=cached)

    report("yes or no", timed(lambda: judge(False)), timed(lambda: judge(True)))


if __name__ == "__main__":
    main()
