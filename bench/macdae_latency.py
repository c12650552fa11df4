"""The context of one request by MACDAE's ContextEncoder, on one core: p50 and p99.

python bench/macdae_latency.py [--requests 2000] [--data frappe.tsv]

Published widths: four heads, context 256, embeddings 64; untrained weights, which cost the same.
Without --data: 957 users, 4,082 items and eight contexts, as many as Frappe has.
"""

import argparse
import time

import numpy as np
import torch

from loram.recommend.interactions import Column, Interactions
from loram.recommend.macdae import ContextEncoder, MacdaeSettings
from loram.recommend.reading import read

FRAPPE = ["daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city"]
SIZES = (7, 7, 2, 3, 2, 9, 80, 233)


def drawn(rng: np.random.Generator, rows: int = 96_203) -> Interactions:
    context = {
        name: Column(rng.integers(0, size, rows), tuple(map(str, range(size))))
        for name, size in zip(FRAPPE, SIZES, strict=True)
    }
    names = tuple(map(str, range(957))), tuple(map(str, range(4082)))
    user, item = (rng.integers(0, len(n), rows) for n in names)
    return Interactions("drawn", user, item, *names, context=context)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--data")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    data = read(options.data, {"context": FRAPPE}) if options.data else drawn(rng)
    encoder = ContextEncoder.fit(data, settings=MacdaeSettings(epochs=0))
    requests = [
        (
            data.users[data.user[row]],
            data.items[rng.integers(len(data.items))],
            {name: c.vocabulary[c.codes[row]] for name, c in data.context.items()},
        )
        for row in rng.integers(0, len(data), options.requests)
    ]
    encoder.context(*requests[0])  # sums of the neighbour lists are made once
    seconds: list[float] = []
    for request in requests:
        began = time.perf_counter()
        encoder.context(*request)
        seconds.append(time.perf_counter() - began)
    p50, p99, worst = np.quantile(seconds, [0.5, 0.99, 1.0]) * 1e3
    print(
        f"{data.name}: one request, one core: p50 {p50:.2f} ms, p99 {p99:.2f} ms, most {worst:.2f}"
    )


if __name__ == "__main__":
    main()
