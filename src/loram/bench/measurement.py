"""What a measurement is: a function of settings that yields tables."""

from collections.abc import Iterator
from typing import Protocol

from loram.bench.settings import BenchSettings
from loram.bench.table import Measured
from loram.train.job import Stage

__all__ = ["Measure", "Stage"]


class Measure(Protocol):
    """A module of this room has one, called `measure`."""

    def __call__(self, settings: BenchSettings, stage: Stage) -> Iterator[Measured]:
        """Yield each table as it is done."""
        ...
