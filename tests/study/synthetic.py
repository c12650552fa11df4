"""A study without training: runs whose metric is a known function of method, rate and seed."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from loram.study.record import Judged, Record
from loram.study.results import Design, Results, Run

# log10 of the best rate, height of the peak, log10 of the factor in the update's magnitude.
METHODS: dict[str, tuple[float, float, float]] = {
    "lora": (-3.0, 0.800, 0.0),
    "rslora": (-3.5, 0.802, 1.0),
    "pissa": (-3.75, 0.800, 1.5),
    "loram": (-3.75, 0.840, 1.5),
    "milora": (-2.75, 0.700, -0.5),
}
LOW, HIGH = 1e-5, 1e-2


def make(
    methods: Sequence[str] = tuple(METHODS),
    tasks: Sequence[str] = ("glue/mrpc", "glue/rte"),
    ranks: Sequence[int] = (8,),
    seeds: Sequence[int] = (0, 1, 2),
    tuning_seeds: Sequence[int] | None = None,
    recipe: Sequence[float] = (1e-4,),
    noise: float = 0.003,
    diverge_above: float = 10**-2.2,
    change: Callable[[Record], Record | None] = lambda record: record,
    better: str = "high",
    steps: int = 12,
) -> tuple[dict[str, Any], list[Record]]:
    """The YAML of a study, and its records."""
    tuning = tuple(seeds if tuning_seeds is None else tuning_seeds)
    spec: dict[str, Any] = {
        "name": "synthetic",
        "base": {"model": "tiny", "steps": steps},
        "tasks": list(tasks),
        "methods": list(methods),
        "ranks": list(ranks),
        "lrs": {"low": LOW, "high": HIGH, "per_decade": 4},
        "seeds": list(seeds),
        "tuning_seeds": list(tuning),
        "recipe": {"lrs": list(recipe)},
    }
    grid = [10 ** (k / 4) for k in range(-20, -7)]
    asked = {
        (task, method, rank, lr, seed)
        for task in tasks
        for method in methods
        for rank in ranks
        for lrs, own in ((grid, tuning), (recipe, seeds), (grid, seeds))
        for lr in lrs
        for seed in own
    }
    made = [
        record(*key, noise=noise, diverge_above=diverge_above, better=better, steps=steps)
        for key in sorted(asked)
    ]
    return spec, [kept for each in made if (kept := change(each)) is not None]


def record(
    task: str,
    method: str,
    rank: int,
    lr: float,
    seed: int,
    *,
    noise: float = 0.003,
    diverge_above: float = 10**-2.2,
    better: str = "high",
    steps: int = 12,
) -> Record:
    """One run: a bump over log lr, noise of the seed that all methods share and one of its own."""
    best, height, factor = METHODS[method]
    away = math.log10(lr) - best
    metric = height - 0.12 * away**2
    shared = np.random.default_rng([seed, len(task)]).normal()
    key = [seed, rank, round(1e9 * lr), *map(ord, method + task)]
    generator = np.random.default_rng(key)
    own = noise * generator.normal(size=2)
    values = [max(0.3, metric + 0.01 * shared + each) for each in own]
    if better == "low":
        values = [1.5 - value for value in values]
    common: dict[str, Any] = {
        "key": f"{task}-{method}-{rank}-{lr:.6g}-{seed}".replace("/", "-"),
        "model": "tiny",
        "task": task,
        "method": method,
        "rank": rank,
        "lr": lr,
        "seed": seed,
        "metric": "accuracy" if better == "high" else "loss",
        "better": better,
        "init_seconds": 0.1 + factor,
        "settings": {"model": "tiny", "method": method, "rank": rank, "lr": lr, "seed": seed}
        | {"steps": steps},
        "versions": {"torch": "2"},
    }
    name = common["metric"]
    if lr > diverge_above:
        return Record(**common, status="diverged", error="loss is not finite", losses=(2.0, 9.0))
    losses = [2.0 - 1.2 * values[1] * (1 - math.exp(-4 * s / steps)) for s in range(steps)]
    far = -1 if better == "high" else 1
    curve = [
        Judged(s, 0.5 * s, {name: values[0] * (1 + far * math.exp(-6 * s / steps))})
        for s in range(steps // 4, steps + 1, max(1, steps // 4))
    ]
    return Record(
        **common,
        status="done",
        validation={name: values[0]},
        test={name: values[1], "extra": 1.0},
        curve=tuple(curve),
        losses=tuple(losses),
        update=10 ** (2 * math.log10(lr) + factor + 0.02 * generator.normal()),
        train_seconds=0.5 * steps,
        peak_memory_bytes=2**28,
        trainable=1000 * rank,
    )


def results(spec: Mapping[str, Any], records: Sequence[Record]) -> Results:
    """Without a folder."""
    design = Design(
        name=spec["name"],
        labels=tuple(spec["methods"]),
        tasks=tuple(spec["tasks"]),
        ranks=tuple(spec["ranks"]),
        seeds=tuple(spec["seeds"]),
        tuning_seeds=tuple(spec["tuning_seeds"]),
        recipe=tuple(spec["recipe"]["lrs"]),
        **spec["lrs"],
    )
    return Results(design, tuple(Run(r.method, r.task, r) for r in records))


def write(folder: Path, spec: Mapping[str, Any], records: Sequence[Record]) -> Path:
    """As `loram compare` leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(dict(spec)), encoding="utf-8")
    for each in records:
        place = folder / "runs" / each.key
        place.mkdir(parents=True, exist_ok=True)
        text = json.dumps(each.model_dump())
        (place / "record.json").write_text(text, encoding="utf-8")
    return folder
