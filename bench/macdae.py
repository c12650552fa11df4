"""MACDAE in front of three CTR bases: base, +DAE, +VAE, +MACDAE, and the effect of each repair.

python bench/macdae.py --data shared/frappe/frappe.tsv [--seeds 5] [--minutes 25]
python bench/macdae.py --data ml-100k                     # of the recbole wheel
python bench/macdae.py --data ml-100k --ablation          # DeepFM, each repair undone

Frappe: two negatives for each use, rows 7:2:1 at random, as in the public benchmark. ml-100k:
ratings above 3 as positives, each user's last tenth is test with 20 negatives each. Widths are
sized for one core: embeddings 16, context 64, perceptron 128-64. Every cell is a file under --out;
the same command goes on with those that are missing, and prints the table of those that are there.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from loram.files import write_text
from loram.recommend.encoders.fields import Fields
from loram.recommend.encoders.fit import FitSettings, fit
from loram.recommend.encoders.seeding import seeded
from loram.recommend.floors import floors
from loram.recommend.interactions import Interactions
from loram.recommend.intervals import judge
from loram.recommend.macdae.context import pretrained
from loram.recommend.macdae.recommender import BASES, Recommender
from loram.recommend.macdae.settings import PAPER_CODE, REPAIRS, MacdaeSettings
from loram.recommend.metrics import auc
from loram.recommend.negatives import parts_with_negatives, with_clock, with_negatives
from loram.recommend.reading import read
from loram.recommend.samples import samples
from loram.recommend.splits import Rows, at_random, temporal_per_user

FRAPPE = ["daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city"]
METRICS = ("auc", "uauc", "ndcg@5", "ndcg@10")
HIDDEN, WIDTH, RESAMPLES = (128, 64), 16, 200
SIZES: dict[str, Any] = {"width": 64, "embedding": 16}
TRAINING: dict[str, Any] = {"epochs": 12, "batch": 4096, "lr": 1e-2, "patience": 2}


def data_of(source: str) -> tuple[Interactions, Rows]:
    if Path(source).name == "ml-100k":
        liked = with_clock(read(source).liked())
        liked = liked.take(np.flatnonzero(liked.labels() == 1))
        for name in ("zip_code", "class"):  # not one value an item, or all but one a user
            liked.user_features.pop(name, None)  # pyright: ignore
            liked.item_features.pop(name, None)  # pyright: ignore
        return parts_with_negatives(liked, temporal_per_user(liked), each=(2, 2, 20))
    data = with_negatives(read(source, {"context": FRAPPE}), each=2)
    return data, at_random(data, (0.7, 0.2, 0.1))


def variants(ablation: bool) -> dict[str, dict[str, Any] | None]:
    if not ablation:
        return {"base": None} | {f"+{kind}": {"kind": kind} for kind in ("dae", "vae", "macdae")}
    undone = {f"without {name}": setting for name, setting in REPAIRS.items()}
    paper = PAPER_CODE.model_dump(exclude_defaults=True)
    return {"base": None, "+macdae": {"kind": "macdae"}, **undone, "paper code": paper}


def cell(
    data: Interactions,
    rows: Rows,
    tokens: torch.Tensor,
    fields: Fields,
    base: str,
    settings: dict[str, Any] | None,
    seed: int,
) -> dict[str, Any]:
    began = time.perf_counter()
    training = FitSettings(**TRAINING, seed=seed)
    context = None
    if settings is not None:
        chosen = MacdaeSettings.model_validate({**SIZES, **settings})
        context = pretrained(data, rows.train, chosen, training)
    with seeded(seed):
        model = Recommender(base, fields, context, width=WIDTH, hidden=HIDDEN)
    model.cold(tokens[rows.train])
    label = data.labels()
    learn = {"tokens": tokens[rows.train], "label": torch.tensor(label[rows.train]).float()}

    def score(part: np.ndarray) -> np.ndarray:
        return model.score(tokens[part]).double().numpy()

    curve = fit(model, learn, lambda: auc(label[rows.valid], score(rows.valid)), training)
    found = judge(
        label[rows.test], score(rows.test), data.user[rows.test], ks=(5, 10), resamples=RESAMPLES
    )
    return {
        "metrics": {name: found[name] for name in METRICS},
        "valid": curve.values,
        "seconds": time.perf_counter() - began,
    }


def row(name: str, cells: list[dict[str, Any]]) -> str:
    """Mean over seeds, ± the 95 % t-interval of that mean, and the users' interval of seed 0."""
    texts: list[str] = []
    for metric in METRICS:
        values = [one["metrics"][metric] for one in cells]
        low, high = values[0][1:]
        texts.append(f"{over_seeds([v[0] for v in values])} [{low:.3f}, {high:.3f}]")
    return f"| {name} | {len(cells)} | {' | '.join(texts)} |"


def difference(name: str, cells: list[dict[str, Any]], others: list[dict[str, Any]]) -> str:
    """Mean over seeds of cells less others, seed by seed, ± the 95 % t-interval of that mean."""
    texts: list[str] = []
    for metric in METRICS:
        pairs = zip(cells, others, strict=True)
        texts.append(
            over_seeds([a["metrics"][metric][0] - b["metrics"][metric][0] for a, b in pairs])
        )
    return f"| {name} | {len(cells)} | {' | '.join(texts)} |"


def over_seeds(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.4f}"
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.fmean(values):.4f} ± {half:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--bases", nargs="+", default=list(BASES), choices=list(BASES))
    parser.add_argument("--ablation", action="store_true", help="on DeepFM alone")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no cell after that")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/macdae"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    data, rows = data_of(options.data)
    fields = Fields.of(data)
    tokens = fields.tokens(data)
    folder = options.out / data.name
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{data.name}: {len(data)} rows, {[len(r) for r in rows]}, fields {fields.names}")
    bases = ["deepfm"] if options.ablation else options.bases
    todo = [
        (seed, base, name, settings)
        for seed in range(options.seeds)
        for base in bases
        for name, settings in variants(options.ablation).items()
    ]
    done: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for seed, base, name, settings in todo:
        asked = {"settings": settings, "sizes": SIZES, "training": TRAINING, "hidden": HIDDEN}
        asked = json.loads(json.dumps(asked))
        file = folder / f"{base}-{name.replace(' ', '_')}-{seed}.json"
        there = json.loads(file.read_text()) if file.exists() else {}
        if there.get("asked") != asked:
            if time.monotonic() - began > options.minutes * 60:
                continue
            there = {"asked": asked, **cell(data, rows, tokens, fields, base, settings, seed)}
            write_text(file, json.dumps(there))
            print(
                file.name, f"{there['metrics']['auc'][0]:.4f}, {there['seconds']:.0f} s", flush=True
            )
        done.setdefault((base, name), []).append(there)
    print(f"\n| {data.name} | seeds | {' | '.join(METRICS)} |\n|---|---|" + "---|" * len(METRICS))
    train, test = (samples(data, part, length=0) for part in (rows.train, rows.test))
    for name, scores in floors(train, test).items():
        found = judge(test.label, scores, test.user, ks=(5, 10), resamples=RESAMPLES)
        print(row(f"floor: {name}", [{"metrics": found}]))
    for (base, name), cells in done.items():
        print(row(f"{base} {name}", cells))
    against = "+macdae" if options.ablation else "base"
    for (base, name), cells in done.items():
        others = done.get((base, against), [])
        if name != against and len(cells) == len(others):
            print(difference(f"{base}: {name} − {against}", cells, others))


if __name__ == "__main__":
    main()
