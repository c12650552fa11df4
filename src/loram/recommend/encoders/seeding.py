"""Randomness of a fit: its own, whatever was drawn before, and nothing changed after."""

from collections.abc import Generator
from contextlib import contextmanager

import torch

__all__ = ["seeded"]


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Draw from `seed` inside; the CPU's global generator is as before outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
