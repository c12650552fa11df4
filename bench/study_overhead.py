"""What a study costs beyond its runs: 1 − sum of the runs' times / (study's time × workers).

    python bench/study_overhead.py [--workers 1] [--steps 60]

20 short runs on a random Llama of width 32. The study's time is from its call to its end, workers'
imports included; what it is after the first record is said too.
"""

import argparse
import tempfile
import time
from pathlib import Path

from loram.study.execute import execute
from loram.study.local import LocalEngine
from loram.study.plan import Plan
from loram.study.runner import study
from loram.study.spec import read
from loram.study.store import Store
from loram.study.versions import deciding
from study_kill import write_study


class Watch:
    """When the first run was done, and how long it took."""

    def __init__(self) -> None:
        self.first: tuple[float, float] | None = None

    def ran(self, job, record) -> None:
        if self.first is None:
            self.first = time.perf_counter(), record.wall_seconds

    def show(self, board, running) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        spec = read(write_study(Path(name), seeds=5, steps=given.steps))
        out, watch = Path(name) / "out", Watch()
        began = time.perf_counter()

        def engine() -> LocalEngine:
            return LocalEngine(out, execute, workers=given.workers, threads=1)

        study(Plan(spec, deciding()), out, engine, watch=watch)
        wall = time.perf_counter() - began
        runs = [each.wall_seconds or 0.0 for each in Store(out).records()]
    assert watch.first is not None
    steady = wall - (watch.first[0] - began)
    rest = sum(runs) - watch.first[1]
    print(
        f"{len(runs)} runs of {sum(runs) / len(runs):.2f} s, {given.workers} workers: {wall:.1f} s"
    )
    print(f"overhead, imports included: {1 - sum(runs) / (wall * given.workers):.1%}")
    if given.workers == 1:
        print(f"overhead after the first run: {1 - rest / steady:.1%}")


if __name__ == "__main__":
    main()
