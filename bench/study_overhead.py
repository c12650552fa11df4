"""What a study costs beyond its training: `loram compare` beside the same runs in one plain loop.

    python bench/study_overhead.py [--rounds 3] [--steps 60] [--python .venv/bin/python]

20 short runs on a random Llama of width 32, one worker, one thread. Both sides are whole processes,
timed from their start to their end and taking turns. The loop imports loram and calls `run` for one
set of settings after the other: these runs can't be had for less in one process. Both must come to
the same losses. `--python` is the interpreter of an environment with loram to measure it in.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from loram.study.job import Job
from loram.study.plan import Plan
from loram.study.spec import read
from loram.study.store import Store
from loram.study.versions import deciding
from study_kill import write_study

LOOP = """
import json, sys
from pathlib import Path
from loram.study.execute import prepare_process
from loram.train.run import run
from loram.train.settings import TrainSettings

prepare_process(1)
for key, settings in json.loads(Path(sys.argv[1]).read_text()).items():
    run(TrainSettings.model_validate(settings), Path(sys.argv[2], key), before=False)
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--python", default=sys.executable)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = write_study(folder, seeds=5, steps=given.steps)
        plan = Plan(read(file), deciding())
        jobs = [job for block in plan.blocks for job in plan.recipe(block)]
        listed = folder / "jobs.json"
        listed.write_text(json.dumps({job.key: job.settings for job in jobs}))
        print(f"{len(jobs)} runs")
        ratios = [
            _round(given.python, file, listed, jobs, folder / str(turn))
            for turn in range(given.rounds)
        ]
    spread = f"{min(ratios) - 1:.1%} to {max(ratios) - 1:.1%}"
    print(f"overhead of the study: median {median(ratios) - 1:.1%} ({spread})")


def _round(python: str, file: Path, listed: Path, jobs: list[Job], out: Path) -> float:
    """The study's seconds over the loop's."""
    study, loop = out / "study", out / "loop"
    asked = ["compare", str(file), "--out", str(study), "--workers", "1"]
    of_study = _seconds([python, "-m", "loram", *asked])
    of_loop = _seconds([python, "-c", LOOP, str(listed), str(loop)])
    for job in jobs:
        record = Store(study).find(job.key)
        lines = (loop / job.key / "losses.jsonl").read_text().splitlines()
        assert record is not None
        assert list(record.losses) == [json.loads(line)["loss"] for line in lines]
    print(f"  study {of_study:.1f} s, loop {of_loop:.1f} s")
    return of_study / of_loop


def _seconds(command: list[str]) -> float:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    began = time.perf_counter()
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
