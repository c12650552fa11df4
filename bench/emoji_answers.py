"""What the models of the study docs/audit/emoji.yaml say of emoji they have never seen.

python bench/emoji_answers.py runs/audit-emoji --data runs/emoji/google --out OUT

At each method's best rate, over its seeds: share of right groups and right names, and chrF of the
names, with Student's intervals, beside the answer that is most often right. OUT gets `answers.md`,
and `answers.png`: images with what each method's first seed calls them.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from textwrap import fill
from typing import Any

from PIL import Image
from sacrebleu.metrics.chrf import CHRF

from emoji import GROUP, NAME
from loram.figures.style import canvas, save
from loram.files import write_text
from loram.study.findings import find
from loram.study.report.numbers import interval, number
from loram.study.report.read import read_study
from loram.study.statistics import student
from loram.study.store import Store

METRICS = ("right group", "right name", "chrF of names")
SHOWN, COLUMNS, WIDTH = 12, 4, 32


def answers(study: Path) -> dict[str, list[list[dict[str, Any]]]]:
    """By method, the answers of its seeds at its best rate."""
    results = read_study(study).results
    findings, store = find(results, results.design.labels[0]), Store(study)
    (block,) = findings.blocks
    found: dict[str, list[list[dict[str, Any]]]] = {}
    for sweep in block.sweeps:
        records = sorted(findings.best_runs(block, sweep.label), key=lambda record: record.seed)
        found[sweep.label] = [rows(store.folder(each.key)) for each in records]
    return found


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def scores(said: list[dict[str, Any]]) -> dict[str, float]:
    groups = [row for row in said if row["question"] == GROUP]
    names = [row for row in said if row["question"] == NAME]
    chrf = CHRF().corpus_score(
        [row["after"] for row in names], [[row["reference"] for row in names]]
    )
    return {
        "right group": sum(row["correct_after"] for row in groups) / len(groups),
        "right name": sum(row["correct_after"] for row in names) / len(names),
        "chrF of names": chrf.score,
    }


def constant(said: list[dict[str, Any]]) -> dict[str, float]:
    """Of the answer to each question that is right most often."""
    best = {
        question: Counter(r["reference"] for r in said if r["question"] == question).most_common(1)
        for question in (GROUP, NAME)
    }
    same = [(row, best[row["question"]][0][0]) for row in said]
    return scores([{**r, "after": x, "correct_after": x == r["reference"]} for r, x in same])


def table(found: dict[str, list[list[dict[str, Any]]]]) -> str:
    some = next(iter(found.values()))[0]
    asked = Counter(row["question"] for row in some)
    lines = [
        f"{asked[GROUP]} questions of the group, {asked[NAME]} of the name.\n",
        f"| | seeds | {' | '.join(METRICS)} |",
        "|---|---|---|---|---|",
    ]
    floor = constant(some)
    lines.append(f"| always the same answer | | {' | '.join(number(floor[m]) for m in METRICS)} |")
    for method, seeds in found.items():
        each = [scores(said) for said in seeds]
        cells = [interval(student([one[metric] for one in each])) for metric in METRICS]
        lines.append(f"| {method} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(found: dict[str, list[list[dict[str, Any]]]], data: Path, out: Path) -> None:
    """The first names asked for, so that nothing is chosen by its answer."""
    lines = (data / "test.jsonl").read_text(encoding="utf-8").splitlines()
    files = {row["answer"]: row["image"] for row in map(json.loads, lines)}
    some = next(iter(found.values()))[0]
    names = [i for i, row in enumerate(some) if row["question"] == NAME][:SHOWN]
    count = -(-len(names) // COLUMNS)
    figure, panels = canvas(count, COLUMNS, size=(9, 2.4 * count))
    for panel in panels:
        panel.axis("off")
    for panel, i in zip(panels, names, strict=False):
        with Image.open(data / files[some[i]["reference"]]) as image:
            panel.imshow(image)
        said = "\n".join(
            fill(f"{method}: {seeds[0][i]['after']}", WIDTH) for method, seeds in found.items()
        )
        panel.set_title(fill(some[i]["reference"], WIDTH), fontsize=8, fontweight="bold")
        panel.text(0.5, -0.05, said, ha="center", va="top", fontsize=7, transform=panel.transAxes)
    save(figure, out / "answers.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    found = answers(options.study)
    options.out.mkdir(parents=True, exist_ok=True)
    text = table(found)
    write_text(options.out / "answers.md", text)
    print(text)
    draw(found, options.data, options.out)


if __name__ == "__main__":
    main()
