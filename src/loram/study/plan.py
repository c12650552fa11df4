"""The runs of a study: their settings and their keys."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from loram.study.check import problems
from loram.study.errors import StudyError
from loram.study.grid import rate
from loram.study.job import Job
from loram.study.key import content, run_key
from loram.study.settings import resolve
from loram.study.spec import Spec
from loram.study.sweep import Sweep

__all__ = ["Block", "Plan"]


@dataclass(frozen=True, slots=True)
class Block:
    """A task at a rank: what is tuned together."""

    task: str
    rank: int


class Plan:
    """A checked study."""

    def __init__(self, spec: Spec, versions: Mapping[str, str]) -> None:
        """Check all runs of the study.

        Args:
            spec: of the study.
            versions: of what decides a number.

        Raises:
            StudyError: what is wrong with any of its runs.
        """
        _refuse(spec, problems(spec))
        self.spec = spec
        # What starts a run decides how many processes add up its gradient.
        self.versions = {**versions, **({"launch": spec.launch} if spec.launch else {})}
        self._tasks = {entry.label: entry for entry in spec.tasks}
        self._methods = {entry.label: entry for entry in spec.methods}
        self._content = cache(content)  # of one study, which nobody changes the data under
        self._jobs: dict[tuple[str, str, int, float, int], Job] = {}
        _refuse(spec, list(self._twice()))

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """In the study's order."""
        return tuple(Block(task, rank) for task in self._tasks for rank in self.spec.ranks)

    @cached_property
    def sweep(self) -> Sweep | None:
        """Of every block; None for a study at fixed rates only."""
        if self.spec.lrs is None:
            return None
        return Sweep(
            tuple(self._methods),
            self.spec.lrs.points(),
            self.spec.extend,
            self.spec.tuning_seeds,
            self.spec.seeds,
        )

    def point(self, block: Block, method: str, k: int, seed: int) -> Job:
        """A run on the grid."""
        assert self.spec.lrs is not None
        return self.job(block, method, rate(k, self.spec.lrs.per_decade), seed)

    def recipe(self, block: Block) -> Iterator[Job]:
        """The block's runs at fixed rates."""
        lrs = () if self.spec.recipe is None else self.spec.recipe.lrs
        for lr in lrs:
            for seed in self.spec.seeds:
                for method in self._methods:
                    yield self.job(block, method, lr, seed)

    def job(self, block: Block, method: str, lr: float, seed: int) -> Job:
        """A run, by what it is in the study."""
        at = (block.task, method, block.rank, lr, seed)
        if at not in self._jobs:
            self._jobs[at] = self._make(*at)
        return self._jobs[at]

    def _make(self, task: str, method: str, rank: int, lr: float, seed: int) -> Job:
        settings = resolve(
            self.spec, self._tasks[task], self._methods[method], rank=rank, lr=lr, seed=seed
        ).model_dump()
        key = run_key(settings, self.versions, self.spec.threads, read=self._content)
        return Job(
            key=key,
            task=task,
            method=method,
            rank=rank,
            lr=lr,
            seed=seed,
            settings=settings,
            versions=self.versions,
            threads=self.spec.threads,
            launch=self.spec.launch,
        )

    def _twice(self) -> Iterator[str]:
        """Runs under two labels have one key and one result, which a report has one name for."""
        known: dict[str, str] = {}
        for task in self._tasks:
            for method in self._methods:
                where = f"task {task} with method {method}"
                key = self._make(task, method, self.spec.ranks[0], lr=1.0, seed=0).key
                if key in known:
                    yield (
                        f"{where}: the same runs as {known[key]}, for all settings that a number "
                        "depends on are equal: leave one out"
                    )
                known.setdefault(key, where)


def _refuse(spec: Spec, found: list[str]) -> None:
    if found:
        lines = "\n".join(f"  {line}" for line in found)
        raise StudyError(f"study {spec.name!r} can't be run:\n{lines}")
