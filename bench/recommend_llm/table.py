"""The table of what `run.py` has done: floors first, then the models, differences, papers last.

python bench/recommend_llm/table.py {tallrec,vectors,sequences} [--out runs/bench/recommend_llm]

A model's cell is the mean over its seeds, ± the 95 % t-interval of that mean, and in brackets the
95 % interval by bootstrap over users of the mean of the seeds. A difference is taken seed by seed
on the same test samples.
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from plan import METHODS, PLANS, SHOTS, rate, validations

from loram.recommend.intervals import bootstrap
from loram.recommend.metrics import SortedScores, per_user_auc
from loram.recommend.ranking import of_candidates
from loram.study.statistics import student

Weighted = Callable[[np.ndarray], float]
RESAMPLES = 1000


class Rows(NamedTuple):
    """Models of one plan: what their runs' folders begin with, and the differences to take."""

    models: Mapping[str, str]  # heading → beginning of the folders' names
    metrics: tuple[str, ...]
    differences: tuple[tuple[str, str], ...] = ()  # of two headings


TABLES: MappingProxyType[str, Rows] = MappingProxyType(
    {
        "tallrec": Rows(
            {f"TALLRec, {n} shots, {m}": f"tallrec-{n}-{m}-" for n in SHOTS for m in METHODS},
            ("auc", "uauc"),
            tuple((f"TALLRec, {n} shots, loram", f"TALLRec, {n} shots, lora") for n in SHOTS),
        ),
        "vectors": Rows({"CoLLM-MF": "collm-mf-", "MACDAE to LLM": "macdae-"}, ("auc", "uauc")),
        "sequences": Rows(
            {"LLaRA": "llara-", "iLoRA": "ilora-"},
            ("hr@1", "ndcg@5", "ndcg@10"),
            (("iLoRA", "LLaRA"),),
        ),
    }
)


def weighted(metric: str, lines: Sequence[dict[str, Any]], name: str) -> Weighted:
    """A metric of one run's scores, as a function of how often each line counts."""
    user = np.asarray([line["user"] for line in lines])
    scores = [line["scores"][name] for line in lines]
    if metric == "auc":
        label = np.asarray([float(line["label"]) for line in lines])
        return SortedScores(label, np.asarray(scores)).auc
    if metric == "uauc":
        label = np.asarray([float(line["label"]) for line in lines])
        codes = np.unique(user, return_inverse=True)[1]
        users, values, _ = per_user_auc(label, np.asarray(scores), codes)
        first = np.asarray([int(np.flatnonzero(codes == each)[0]) for each in users])
        return lambda weight: mean(values, weight[first])
    right = np.asarray([line["candidates"].index(line["item"]) for line in lines])
    found = of_candidates(right, np.asarray(scores), (1, 5, 10))[metric]
    return partial(mean, found)


def mean(values: np.ndarray, weight: np.ndarray) -> float:
    total = weight.sum()
    return float((weight * values).sum() / total) if total else math.nan


def over(values: Sequence[float]) -> str:
    """± half of the 95 % t-interval of the mean, if there are two values or more."""
    found = student(values)
    if found.low is None or found.high is None:
        return ""
    return f" ± {(found.high - found.low) / 2:.3f}"


def over_seeds(each: Sequence[Weighted], user: np.ndarray) -> str:
    """Mean of the runs ± over the seeds, and its interval over the users."""
    found = bootstrap(
        lambda weight: statistics.fmean(of(weight) for of in each), user, resamples=RESAMPLES
    )
    spread = over([of(np.ones(len(user))) for of in each])
    return f"{found.value:.3f}{spread} [{found.low:.3f}, {found.high:.3f}]"


def differences(ones: Sequence[Weighted], others: Sequence[Weighted]) -> list[Weighted]:
    def of(one: Weighted, other: Weighted) -> Weighted:
        return lambda weight: one(weight) - other(weight)

    return [of(one, other) for one, other in zip(ones, others, strict=True)]


class Done:
    """The finished runs of one model."""

    def __init__(self, out: Path, begins: str) -> None:
        folders = sorted(p.parent for p in out.glob(f"{begins}[0-9]*/results.json"))
        self.results = [json.loads((f / "results.json").read_text()) for f in folders]
        self.lines = [
            [json.loads(line) for line in (f / "scores.jsonl").read_text().splitlines()]
            for f in folders
        ]
        self.scored = list(self.results[0]["metrics"]) if folders else []

    def each(self, metric: str, scored: str) -> list[Weighted]:
        """The metric of each seed's run."""
        return [weighted(metric, lines, scored) for lines in self.lines]

    def row(
        self, name: str, metrics: Sequence[str], of: Callable[[str], list[Weighted]]
    ) -> list[str]:
        """Name, seeds, and a cell a metric."""
        return [name, str(len(self.lines)), *(over_seeds(of(m), self.user) for m in metrics)]

    @property
    def user(self) -> np.ndarray:
        """Whose lines they are; the same for every seed."""
        return np.asarray([line["user"] for line in self.lines[0]])


def rows_of(table: Rows, out: Path) -> list[list[str]]:
    """The whole table below its headings."""
    done = {name: Done(out, begins) for name, begins in table.models.items()}
    done = {name: each for name, each in done.items() if each.results}
    if not done:
        raise SystemExit(f"{out} has no finished run of this table")
    floors: dict[str, list[str]] = {}
    published: dict[str, list[str]] = {}
    for each in done.values():
        for name, found in each.results[0]["baselines"].items():
            cell = [
                f"{found[m][0]:.3f} [{found[m][1]:.3f}, {found[m][2]:.3f}]" for m in table.metrics
            ]
            floors.setdefault(f"floor: {name}", cell)
        for name, found in each.results[0]["published"].items():
            published[f"published: {name}"] = [
                f"{found[m]:.3f}" if m in found else "" for m in table.metrics
            ]
    rows = [[name, "", *cells] for name, cells in floors.items()]
    for name, each in done.items():
        first, *controls = each.scored
        rows.append(each.row(name, table.metrics, partial(each.each, scored=first)))
        for control in controls:
            label = control.removeprefix("the same, ")
            rows.append(
                each.row(f"{name}, {label}", table.metrics, partial(each.each, scored=control))
            )
            rows.append(
                each.row(
                    f"{name} − {label}",
                    table.metrics,
                    lambda m, e=each, a=first, b=control: differences(e.each(m, a), e.each(m, b)),
                )
            )
        rows += written(each, name, len(table.metrics))
    for one, other in table.differences:
        if one in done and other in done and len(done[one].lines) == len(done[other].lines):
            a, b = done[one], done[other]
            rows.append(
                a.row(
                    f"{one} − {other}",
                    table.metrics,
                    lambda m, a=a, b=b: differences(a.each(m, a.scored[0]), b.each(m, b.scored[0])),
                )
            )
    return rows + [[name, "", *cells] for name, cells in published.items()]


def written(done: Done, name: str, metrics: int) -> list[list[str]]:
    """HR@1 of what the model writes, over all answers; no row where it writes none."""
    found = [each["written"] for each in done.results if "written" in each]
    if not found:
        return []
    valid = statistics.fmean(each["valid_ratio"] for each in found)
    right = [each["hr@1"][0] for each in found]
    label = f"{name}, written answers, {valid:.0%} valid"
    cell = f"{statistics.fmean(right):.3f}{over(right)}"
    return [[label, str(len(found)), cell, *[""] * (metrics - 1)]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=list(TABLES))
    parser.add_argument("--out", type=Path, default=Path("runs/bench/recommend_llm"))
    options = parser.parse_args()
    table = TABLES[options.table]
    print(f"| | seeds | {' | '.join(m.upper() for m in table.metrics)} |")
    print("|---|---|" + "---|" * len(table.metrics))
    for row in rows_of(table, options.out):
        print(f"| {' | '.join(row)} |")
    if PLANS[options.table].tuned:
        print("\nValidation of one seed at each learning rate, and the rate taken:\n")
    for name in PLANS[options.table].tuned:
        tried = [f"{10**p:.2g}: {value:.3f}" for p, value in validations(options.out, name).items()]
        print(f"- {name}: {', '.join(tried)}; {rate(options.out, name):.2g}")


if __name__ == "__main__":
    main()
