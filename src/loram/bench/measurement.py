"""What a measurement is: a function of settings that yields tables."""

from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

from loram.bench.settings import BenchSettings
from loram.bench.table import Measured

__all__ = ["Measure", "Stage"]

Stage: TypeAlias = Callable[[str, int | None], Callable[[int], None]]
"""(what is being done, how many parts) → function told of every part that is done."""


class Measure(Protocol):
    """A module of this room has one, called `measure`."""

    def __call__(self, settings: BenchSettings, stage: Stage) -> Iterator[Measured]:
        """Yield each table as it is done."""
        ...
