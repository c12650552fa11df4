"""What an unfinished study still lacks: a report says so before it says anything else."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from loram.study.results import Results, Run, same_rate
from loram.study.select import Tuned

__all__ = ["Missing", "missing"]


class Missing(NamedTuple):
    """Runs of one kind that have no result, failed ones included.

    Attributes:
        task: label.
        rank: r.
        what: they are for.
        lacking: how many, by method; only methods that lack any.
        of: how many there should be, over all methods.
    """

    task: str
    rank: int
    what: str
    lacking: dict[str, int]
    of: int


def missing(results: Results, sweeps: dict[tuple[str, int], tuple[Tuned, ...]]) -> list[Missing]:
    """Count what is asked for and not there.

    Args:
        results: the runs.
        sweeps: by task and rank, of those that have runs. A grid that was extended for one method
            is asked of all.
    """
    design = results.design
    found: list[Missing] = []
    for task in design.tasks:
        for rank in design.ranks:
            own = sweeps.get((task, rank), ())
            runs = dict(results.labels(results.block(task, rank)))
            rates = list(design.grid())
            for rate in (rate.lr for sweep in own for rate in sweep.rates):
                if not any(same_rate(rate, known) for known in rates):
                    rates.append(rate)
            best = {sweep.label: sweep.lr for sweep in own}
            asked = {
                "tuning": dict.fromkeys(design.labels, (rates, design.tuning_seeds)),
                "best rates": {
                    label: ([lr], design.seeds) for label, lr in best.items() if lr is not None
                },
                "fixed rates": dict.fromkeys(design.labels, (design.recipe, design.seeds)),
            }
            for what, wanted in asked.items():
                lacking = {
                    label: sum(1 for _ in _absent(runs.get(label, []), *each))
                    for label, each in wanted.items()
                }
                lacking = {label: count for label, count in lacking.items() if count}
                if lacking:
                    total = sum(len(lrs) * len(seeds) for lrs, seeds in wanted.values())
                    found.append(Missing(task, rank, what, lacking, total))
    return found


def _absent(
    runs: list[Run], rates: Iterable[float], seeds: Iterable[int]
) -> Iterator[tuple[float, int]]:
    there = [(r.record.lr, r.record.seed) for r in runs if r.record.status != "failed"]
    for rate in rates:
        at_rate = {seed for lr, seed in there if same_rate(lr, rate)}
        yield from ((rate, seed) for seed in seeds if seed not in at_rate)
