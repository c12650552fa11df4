"""Where a study stands: which runs are known to be needed, and what came of those that are done."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

from loram.study.job import Job
from loram.study.plan import Block, Plan
from loram.study.record import Record
from loram.study.sweep import Ask, Outcome, State, advance

__all__ = ["Board", "Row", "outcome"]


_ROLES = ("tuning", "final", "recipe")


class Row(NamedTuple):
    """A method at a task and a rank, as the live table shows it.

    Attributes:
        task: label.
        rank: r.
        method: label.
        done: runs with a result, diverged ones too.
        total: runs known to be needed so far; a sweep may ask for more.
        diverged: of those done.
        failed: runs.
        lr: the chosen rate; while it is not chosen, the best so far.
        score: validation metric there, mean over what it is, or would be, chosen by.
    """

    task: str
    rank: int
    method: str
    done: int
    total: int
    diverged: int
    failed: int
    lr: float | None
    score: float | None


@dataclass(slots=True)
class _Runs:
    """Of one block: what each of its runs is for, in the order they came up."""

    roles: dict[str, list[str]] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)

    def want(self, job: Job, role: str) -> None:
        self.jobs.setdefault(job.key, job)
        roles = self.roles.setdefault(job.key, [])
        if role not in roles:
            roles.append(role)


class Board:
    """Needed runs and known results; no files, no processes."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.records: dict[str, Record] = {}
        self.states: dict[Block, State] = {}
        self._runs = {block: _Runs() for block in plan.blocks}

    def needs(self) -> Iterator[Job]:
        """Runs without a result, each once: sweeps, then fixed rates."""
        seen = set(self.records)
        for block in self.plan.blocks:
            self.refresh(block)
        for runs in self._runs.values():
            for key, job in runs.jobs.items():
                if key not in seen:
                    seen.add(key)
                    yield job

    def add(self, record: Record) -> list[Block]:
        """Take a result in; the blocks it may have moved on."""
        self.records[record.key] = record
        return [block for block, runs in self._runs.items() if record.key in runs.jobs]

    def refresh(self, block: Block) -> list[Job]:
        """What a block needs now."""
        runs, sweep = self._runs[block], self.plan.sweep
        if sweep is not None:
            state = advance(sweep, lambda ask: self._look(block, ask))
            self.states[block] = state
            for ask in self._asked(state):
                role = "tuning" if ask.seed in sweep.tuning_seeds else "final"
                runs.want(self.plan.point(block, *ask), role)
            for method, k in state.best.items():
                if k is not None:
                    for seed in sweep.seeds:
                        runs.want(self.plan.point(block, method, k, seed), "final")
        for job in self.plan.recipe(block):
            runs.want(job, "recipe")
        return [job for key, job in runs.jobs.items() if key not in self.records]

    def _asked(self, state: State) -> Iterable[Ask]:
        """The whole grid as far as it has grown: runs that were done before count too."""
        sweep = self.plan.sweep
        assert sweep is not None
        return (
            Ask(method, k, seed)
            for k in state.points
            for seed in sweep.tuning_seeds
            for method in sweep.methods
        )

    def _look(self, block: Block, ask: Ask) -> Outcome | None:
        record = self.records.get(self.plan.point(block, *ask).key)
        return None if record is None else outcome(record)

    def jobs(self, block: Block) -> list[Job]:
        """What a block was found to need, done or not."""
        return list(self._runs[block].jobs.values())

    def rows(self) -> list[Row]:
        """One for each task, rank and method."""
        return [
            self._row(block, method.label)
            for block in self.plan.blocks
            for method in self.plan.spec.methods
        ]

    def _row(self, block: Block, method: str) -> Row:
        mine = [job for job in self._runs[block].jobs.values() if job.method == method]
        records = [self.records[job.key] for job in mine if job.key in self.records]
        count = {
            status: sum(r.status == status for r in records) for status in ("diverged", "failed")
        }
        lr, score = self._best(self._tuned(block, method) or records)
        return Row(
            block.task,
            block.rank,
            method,
            done=len(records) - count["failed"],
            total=len(mine),
            diverged=count["diverged"],
            failed=count["failed"],
            lr=lr,
            score=score,
        )

    def _tuned(self, block: Block, method: str) -> list[Record]:
        """Results that the rate was chosen by, at that rate; none while it is not."""
        sweep, state = self.plan.sweep, self.states.get(block)
        k = None if state is None else state.best.get(method)
        if sweep is None or k is None:
            return []
        keys = [self.plan.point(block, method, k, seed).key for seed in sweep.tuning_seeds]
        return [self.records[key] for key in keys if key in self.records]

    def _best(self, records: list[Record]) -> tuple[float | None, float | None]:
        """The best rate of these by the mean at each."""
        by_rate: dict[float, list[float]] = {}
        sign = 1.0
        for record in records:
            score = outcome(record).score
            if score is not None:
                by_rate.setdefault(record.lr, []).append(score)
                sign = 1.0 if record.better == "high" else -1.0
        means = {lr: sum(scores) / len(scores) for lr, scores in sorted(by_rate.items())}
        best = max(means, key=lambda lr: means[lr], default=None)
        if best is None or means[best] == -inf:
            return None, None
        return best, sign * means[best]

    def summary(self) -> dict[str, Any]:
        """What `plan.json` holds."""
        return {
            "study": self.plan.spec.name,
            "versions": self.plan.versions,
            "threads": self.plan.spec.threads,
            "runs": [
                self._line(job, runs.roles[key])
                for runs in self._runs.values()
                for key, job in runs.jobs.items()
            ],
            "sweeps": [self._sweep(block, state) for block, state in self.states.items()],
        }

    def _line(self, job: Job, roles: list[str]) -> dict[str, Any]:
        record = self.records.get(job.key)
        return {
            "key": job.key,
            "task": job.task,
            "method": job.method,
            "rank": job.rank,
            "lr": job.lr,
            "seed": job.seed,
            "roles": [role for role in _ROLES if role in roles],
            "status": None if record is None else record.status,
        }

    def _sweep(self, block: Block, state: State) -> dict[str, Any]:
        def lr(k: int) -> float:
            return self.plan.point(block, self.plan.spec.methods[0].label, k, 0).lr

        return {
            "task": block.task,
            "rank": block.rank,
            "stage": state.stage,
            "lrs": [lr(k) for k in state.points],
            "best": {m: None if k is None else lr(k) for m, k in state.best.items()},
            "edges": state.edges,
        }


def outcome(record: Record) -> Outcome:
    """A record as the sweep sees it."""
    if record.status == "failed":
        return Outcome(None)
    value = record.validation.get(record.metric)
    if record.status == "diverged" or value is None:
        return Outcome(-inf)
    return Outcome(value if record.better == "high" else -value)
