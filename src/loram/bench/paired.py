"""Paired rounds in one process: the works take turns, so that what disturbs one disturbs all."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from loram.bench.table import Row

__all__ = ["Times", "Work", "beside", "ratio", "rounds", "seconds"]

Times = dict[str, list[float]]
"""Seconds of each work, a number a round."""


class Work(NamedTuple):
    """Something to time.

    Attributes:
        run: what is timed; gets what `prepare` made.
        prepare: makes the arguments before each run, untimed.
        once: too slow to repeat: one run, without warm-up.
    """

    run: Callable[..., object]
    prepare: Callable[[], tuple[Any, ...]] = tuple
    once: bool = False


def seconds(work: Callable[[], object]) -> float:
    """Wall clock of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def rounds(
    works: Mapping[str, Work | Callable[[], object]],
    count: int,
    *,
    warmup: int = 1,
    told: Callable[[int], None] = lambda n: None,
) -> Times:
    """Seconds of each work in each round; within a round they take turns, so drift is shared.

    Args:
        works: by name.
        count: rounds that count.
        warmup: rounds before them that do not.
        told: called with 1 after each round.
    """
    times: Times = {name: [] for name in works}
    for turn in range(warmup + count):
        for name, work in works.items():
            work = work if isinstance(work, Work) else Work(work)
            if work.once and turn != warmup:
                continue
            given = work.prepare()
            spent = seconds(lambda work=work, given=given: work.run(*given))
            if turn >= warmup:
                times[name].append(spent)
        told(1)
    return times


def ratio(times: Mapping[str, Sequence[float]], top: str, bottom: str) -> dict[str, float]:
    """Of two works, round by round: median, smallest, largest.

    A work that ran once is compared with the other's median.
    """
    above, below = times[top], times[bottom]
    if len(above) != len(below):
        above, below = [statistics.median(above)], [statistics.median(below)]
    pairs = [a / b for a, b in zip(above, below, strict=True)]
    return {"median": statistics.median(pairs), "min": min(pairs), "max": max(pairs)}


def beside(
    times: Times,
    floors: Mapping[str, str | None],
    *,
    unit: float = 1e3,
    of: str = "ms",
    against: Iterable[str] = (),
) -> list[Row]:
    """A row a work: its median, its floor, how often the floor it takes, and what else is asked.

    Args:
        times: of `rounds`.
        floors: by work, the name of the work that is its floor; None, or no entry, for none.
        unit: of the medians, in 1/s.
        of: its name.
        against: works for more columns of ratios.
    """
    rows: list[Row] = []
    for name, spent in times.items():
        floor = floors.get(name)
        over = ratio(times, name, floor) if floor else {}
        row: Row = {
            "work": name,
            of: unit * statistics.median(spent),
            "fastest": unit * min(spent),
            "floor": floor,
            "over floor": over.get("median"),
            "least": over.get("min"),
            "most": over.get("max"),
        }
        for other in against:
            if other in times:
                row[f"over {other}"] = ratio(times, name, other)["median"]
        rows.append(row)
    return rows
