"""Interactions made for tests: tastes that a small model can learn, and titles."""

import numpy as np

from loram.recommend.interactions import Column, Interactions

DAYPARTS = ("morning", "evening")


def made(users: int = 30, items: int = 40, each: int = 20, seed: int = 0) -> Interactions:
    """Users like items of their own parity, more so in the evening; the first column of time."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), each)
    item = np.concatenate([rng.choice(items, each, replace=False) for _ in range(users)])
    part = rng.integers(0, 2, len(user))
    chance = np.where(user % 2 == item % 2, 0.75 + 0.2 * part, 0.25 - 0.2 * part)
    label = (rng.random(len(user)) < chance).astype(np.float64)
    order = rng.permutation(len(user))
    return Interactions(
        "made",
        user[order],
        item[order],
        tuple(f"u{n}" for n in range(users)),
        tuple(f"i{n}" for n in range(items)),
        rating=(1 + 4 * label)[order],
        label=label[order],
        time=rng.permutation(len(user)).astype(np.float64) * 3600,
        titles=tuple(f"Film {n}" for n in range(items)),
        context={"daypart": Column(part[order], DAYPARTS)},
        user_features={"age": Column(np.arange(users) % 3, ("old", "young", "none"))},
    )
