"""The context of one request by MACDAE's ContextEncoder, on one core: p50 and p99.

python bench/macdae_latency.py [--requests 2000] [--data frappe.tsv]

CPU time is what the clock on the wall would say on a machine that does nothing else. Published
widths: four heads, context 256, embeddings 64; untrained weights, which cost the same.
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
    clocks = {"wall clock": time.perf_counter, "CPU time": time.thread_time}
    seconds: dict[str, list[float]] = {name: [] for name in clocks}
    for request in requests:
        began = {name: clock() for name, clock in clocks.items()}
        encoder.context(*request)
        for name, clock in clocks.items():
            seconds[name].append(clock() - began[name])
    for name, values in seconds.items():
        p50, p99 = np.quantile(values, [0.5, 0.99]) * 1e3
        print(f"{data.name}, one request, one core, {name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")


if __name__ == "__main__":
    main()
