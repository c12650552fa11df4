"""Emoji that two vendors have drawn, and how they are split. The class of an emoji is its place."""

import json
import random
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from loram.vision.images import read_image

GROUPS = ("smileys and emotion",)
"""Of Unicode: faces and hearts, which a vendor draws alike."""

SPLIT_SEED = 0


class Split(NamedTuple):
    """Classes. A run trains on a draw from `pool`; nothing of the others is ever trained on."""

    pool: list[int]
    validation: list[int]
    test: list[int]


def classes(folder: Path, groups: tuple[str, ...] = GROUPS) -> list[str]:
    """Files of the emoji of these groups, in the order of their names.

    Args:
        folder: as `bench/emoji.py` makes it.
        groups: of Unicode, in lower case.
    """
    names: set[str] = set()
    for split in ("train", "test"):
        file = folder / f"{split}.jsonl"
        if not file.is_file():
            raise SystemExit(f"no {file}: expected a folder as `python bench/emoji.py` makes it")
        rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
        names |= {row["image"] for row in rows if row["answer"] in groups}
    if not names:
        raise SystemExit(f"{folder}: no emoji of {', '.join(groups)}")
    return sorted(names)


def pixels(folder: Path, names: list[str], size: int) -> Tensor:
    """(names, 3, size, size) in [−1, 1]."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise SystemExit(f"{folder} lacks {len(missing)} of {len(names)} emoji: {missing[:3]} …")
    return torch.stack([read_image(folder / name, size) for name in names])


def split(n: int, *, validation: int, test: int) -> Split:
    """The same for every method, rate and seed."""
    if validation + test >= n:
        raise SystemExit(f"{n} emoji can't be split into {validation} + {test} and some to train")
    order = list(range(n))
    random.Random(SPLIT_SEED).shuffle(order)
    return Split(order[validation + test :], order[:validation], order[validation:][:test])
