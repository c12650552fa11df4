"""Adapt the pretrained transformer to another vendor's emoji, by LoRA, PiSSA and LoRAM.

npm pack emoji-datasource-twitter@16.0.0
python bench/emoji.py emoji-datasource-twitter-16.0.0.tgz --out runs/emoji/twitter
python bench/style/adapt.py [--workers 2] [--minutes 30]

Each method is swept over learning rates, tuned by validation, and run with every seed at its best
rate, as `loram compare` does. A run trains on a few of the new vendor's emoji, drawn by its seed;
judged on emoji whose new looks no run sees: the loss, which rates are tuned by, and how near what
is drawn is to the vendor's own by features, which reward a sharp image in the old style more. OUT
gets a folder a run, `report/` as of `loram report`, `distances.md` with the floors, `grid.png`.
Killed, the command goes on with the runs that are missing.
"""

import argparse
import json
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from emoji_set import classes

from loram.files import write_text
from loram.study.findings import find
from loram.study.key import run_key
from loram.study.record import Record
from loram.study.report.read import Found
from loram.study.report.write import write_report
from loram.study.results import Design, Results, Run
from loram.study.store import Store
from loram.study.sweep import Ask, Outcome, Sweep, advance
from loram.study.versions import deciding

PER_DECADE, EXTEND = 4, 4


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    names = classes(options.source)
    if names != json.loads((options.base / "emoji.json").read_text()):
        raise SystemExit(f"{options.base} was pretrained on other emoji than {options.source} has")
    started = time.monotonic()
    records: dict[Ask, Record] = {}
    versions, store = deciding(), Store(options.out)

    def asked(ask: Ask) -> dict[str, Any]:
        return {
            "model": str(options.base),
            "data": str(options.data),
            "method": ask.method,
            "lr": 10 ** (ask.k / PER_DECADE),
            "seed": ask.seed,
            "rank": options.rank,
            "steps": options.steps,
            "batch_size": options.batch_size,
            "train_images": options.train_images,
            "validation_images": options.validation_images,
            "test_images": options.test_images,
            "judge_every": options.judge_every,
        }

    def look(ask: Ask) -> Outcome | None:
        if ask not in records:
            record = store.find(run_key(asked(ask), versions, 1))
            if record is None:
                return None
            records[ask] = record
        done = records[ask]
        return Outcome(-done.validation[done.metric] if done.status == "done" else float("-inf"))

    sweep = Sweep(
        tuple(options.methods), range(*options.points), EXTEND, (0,), tuple(range(options.seeds))
    )
    with workers(options.workers) as each:
        while (state := advance(sweep, look)).needed:
            if time.monotonic() - started > options.minutes * 60:
                raise SystemExit(f"time is up: {state.stage}, the same command goes on")
            some = state.needed[: options.workers]
            jobs = [(asked(ask), options.out, versions) for ask in some]
            for said in each(run_one, jobs):
                print(f"{state.stage}: {said}", flush=True)
    write(options, records)


@contextmanager
def workers(count: int) -> Generator[Callable[..., Iterable[str]]]:
    """A map over processes, or over this one alone."""
    if count == 1:
        yield map
        return
    with ProcessPoolExecutor(count, get_context("spawn")) as pool:
        yield pool.map


def run_one(job: tuple[dict[str, Any], Path, dict[str, str]]) -> str:
    from run import adapted  # torch and diffusers, in the worker alone

    settings, out, versions = job
    key, store = run_key(settings, versions, 1), Store(out)
    record = adapted(settings, store.folder(key), key, versions)
    store.write(record)
    named = f"{record.method} lr {record.lr:.1e} seed {record.seed}"
    return f"{named}: {record.status} {record.validation} {record.wall_seconds:.0f} s"


def write(options: Any, records: dict[Ask, Record]) -> None:
    """Report, table and picture."""
    from run import floors
    from table import draw_grid_of, table

    low, high = options.points[0], options.points[1] - 1
    design = Design(
        name="style",
        labels=tuple(options.methods),
        tasks=("style",),
        ranks=(options.rank,),
        seeds=tuple(range(options.seeds)),
        tuning_seeds=(0,),
        low=10 ** (low / PER_DECADE),
        high=10 ** (high / PER_DECADE),
        per_decade=PER_DECADE,
    )
    results = Results(
        design, tuple(Run(ask.method, "style", each) for ask, each in records.items())
    )
    write_report(Found(results), options.out / "report")
    findings = find(results, options.methods[0])
    (block,) = findings.blocks
    best = {
        label: sorted(found, key=lambda record: record.seed)
        for label in options.methods
        if (found := findings.best_runs(block, label))
    }
    text = table(floors(options), best)
    write_text(options.out / "distances.md", text)
    print(text)
    draw_grid_of(best, options)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, default=Path("runs/style/base"))
    parser.add_argument("--source", type=Path, default=Path("runs/emoji/google"))
    parser.add_argument("--data", type=Path, default=Path("runs/emoji/twitter"))
    parser.add_argument("--out", type=Path, default=Path("runs/style/twitter"))
    parser.add_argument("--methods", nargs="+", default=["lora", "pissa", "loram"])
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--train-images", type=int, default=48)
    parser.add_argument("--validation-images", type=int, default=32)
    parser.add_argument("--test-images", type=int, default=72)
    parser.add_argument("--judge-every", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--points",
        type=int,
        nargs=2,
        default=[-13, -9],
        metavar=("FIRST", "END"),
        help="k of the first rates, 10^(k/4), END not among them; the sweep grows them",
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    return parser.parse_args(given)


if __name__ == "__main__":
    main()
