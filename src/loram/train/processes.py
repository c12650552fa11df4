"""One run in several processes, as `torchrun` and `accelerate launch` start them.

Each trains on its share of every batch; the first one writes. What the others would write lies in
a scratch folder that goes with them.
"""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import torch

from loram.train.errors import RunError
from loram.train.settings import TrainSettings

__all__ = ["alone", "count", "first", "first_goes_ahead", "own_folder", "share"]


def count() -> int:
    """Of the processes that train one model."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def first() -> bool:
    """Whether this one writes."""
    return int(os.environ.get("RANK", "0")) == 0


def alone() -> bool:
    """Whether there is one only."""
    return count() == 1


def share(settings: TrainSettings) -> int:
    """Examples of a batch that this process takes.

    Raises:
        RunError: the batch can't be shared equally.
    """
    each, left = divmod(settings.batch_size, count())
    if left or not each:
        raise RunError(
            f"expected a batch_size that {count()} processes can share equally, got "
            f"{settings.batch_size}: give a multiple of {count()}"
        )
    return each


@contextmanager
def first_goes_ahead() -> Generator[None]:
    """The others come in when the first has come out; if it fails, the launcher ends them."""
    if alone():
        yield
        return
    from accelerate import PartialState

    # Makes the process group, and this process's GPU the current one.
    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():
        yield


@contextmanager
def own_folder(out: Path) -> Generator[Path]:
    """Where this process writes: the run's folder, or a scratch one."""
    if first():
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="loram-") as scratch:
        yield Path(scratch)
