"""Time to start an adapter on one layer: LoRAM's two forms and PEFT's methods beside their floors,
on the shapes of LLaMA-2; totals of the whole model; growth with the width and the rank.

python bench/init_layers.py [--quick] [--model llama-2-7b] [--rounds 5] [--exact] [--growth]
"""

import argparse
import statistics
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from peft import LoraConfig
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn

import loram  # noqa: F401 - registers
from loram.figures.style import CYCLE, canvas, save, write_csv
from paired import RUNS, ratio, report, seconds

# Shape (n, m): how many of it are in the model.
MODELS: dict[str, dict[tuple[int, int], int]] = {
    "llama-2-7b": {(4096, 4096): 32 * 4, (11008, 4096): 32 * 2, (4096, 11008): 32},
    "llama-2-70b": {
        (8192, 8192): 80 * 2,
        (1024, 8192): 80 * 2,
        (28672, 8192): 80 * 2,
        (8192, 28672): 80,
    },
    "quick": {(1024, 1024): 4, (2752, 1024): 2, (1024, 2752): 1},
}
METHODS: dict[str, bool | str] = {
    "kaiming": True,
    "loram": "loram",
    "loram_residual": "loram_residual",
    "orthogonal": "orthogonal",
    "olora": "olora",
    "pissa_niter_4": "pissa_niter_4",
    "pissa_niter_16": "pissa_niter_16",
}
REWRITES = ("loram_residual", "olora", "pissa", "pissa_niter_4", "pissa_niter_16")
# What a method is compared with: reading W once; and writing it once too.
FLOORS = {"loram": "norm", "loram_residual": "norm + add"}
RANKS = (16, 128)


class Work(NamedTuple):
    """Something to time on a weight; `fresh` if it changes the weight."""

    run: Callable[[Tensor], object]
    fresh: bool = False


def started(init: bool | str, r: int) -> Callable[[Tensor], object]:
    """PEFT's layer around a Linear with this weight, its adapter started."""
    config = LoraConfig(init_lora_weights=init)  # pyright: ignore[reportArgumentType]

    def run(W: Tensor) -> object:
        linear = nn.Linear(W.shape[1], W.shape[0], bias=False, device="meta")
        linear.weight = nn.Parameter(W, requires_grad=False)
        return LoraLinear(linear, "default", config=config, r=r, lora_alpha=r)

    return run


def floors(W: Tensor, r: int) -> dict[str, Work]:
    """One pass of the norm; that, and one pass that writes: a sum, or a product of rank r."""
    dense = torch.randn(W.shape).mul_(1e-6).to(W.dtype)
    left, right = (1e-6 * torch.randn(W.shape[0], r)).to(W), torch.randn(r, W.shape[1]).to(W)
    return {
        "norm": Work(lambda W: W.norm()),
        "norm + add": Work(lambda W: (W.norm(), W.add_(dense)), fresh=True),
        "norm + addmm": Work(lambda W: (W.norm(), W.addmm_(left, right)), fresh=True),
    }


def timed(W: Tensor, works: dict[str, Work], count: int) -> dict[str, list[float]]:
    """Seconds in each round, the works taking turns, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(count + 1):
        for name, work in works.items():
            weight = W.clone() if work.fresh else W
            spent = seconds(lambda f=work.run, w=weight: f(w))
            if turn:
                times[name].append(spent)
    return times


def methods(r: int, names: Iterable[str]) -> dict[str, Work]:
    return {name: Work(started(METHODS[name], r), name in REWRITES) for name in names}


def layers(model: str, dtype: torch.dtype, r: int, count: int, *, exact: bool) -> None:
    """The table of one dtype and rank: a row a method, a column a shape, and the whole model."""
    found: dict[tuple[int, int], dict[str, list[float]]] = {}
    for shape in MODELS[model]:
        W = (0.02 * torch.randn(shape)).to(dtype)
        times = timed(W, floors(W, r) | methods(r, METHODS), count)
        if exact:  # minutes: once
            times["pissa"] = [seconds(lambda W=W: started("pissa", r)(W.clone()))] * count
        found[shape] = times
    rows: list[dict[str, object]] = []
    whole = {
        name: [
            sum(n * found[shape][name][i] for shape, n in MODELS[model].items())
            for i in range(count)
        ]
        for name in next(iter(found.values()))
    }
    for name in whole:
        floor = FLOORS.get(name)
        if name == "loram_residual" and r > RANKS[0]:
            floor = "norm + addmm"
        rows.append(
            {
                "method": name,
                **{
                    f"{n}x{m} (ms)": 1e3 * statistics.median(found[n, m][name])
                    for n, m in MODELS[model]
                },
                "model (s)": statistics.median(whole[name]),
                "floor": floor or "-",
                "model over floor": ratio(whole, name, floor)["median"] if floor else "-",
                "over loram": ratio(whole, name, "loram")["median"],
            }
        )
    kind = str(dtype).removeprefix("torch.")
    report(
        f"init_layers_{model}_{kind}_r{r}",
        f"{model}, {kind}, r {r}, {torch.get_num_threads()} threads, median of {count}; the model: "
        "layers times how many there are",
        rows,
    )


def growth(count: int, largest: int) -> Path:
    """Seconds of the deviation form with the number of entries, at several ranks."""
    rows: list[tuple[object, ...]] = []
    figure, (axes,) = canvas()
    ranks = [r for r in (16, 128, 512) if r <= largest]
    sizes = [n for n in (512, 1024, 2048, 4096, 8192, 16384) if n <= largest]
    curves: dict[str, list[float]] = {name: [] for name in (*(f"r {r}" for r in ranks), "norm")}
    for n in sizes:
        W = (0.02 * torch.randn(n, n)).to(torch.bfloat16)
        works = {f"r {r}": Work(started("loram", r)) for r in ranks if r <= n}
        works["norm"] = Work(lambda W: W.norm())
        for name, spent in timed(W, works, count).items():
            curves[name].append(statistics.median(spent))
            rows.append((n, n * n, name, statistics.median(spent), min(spent), max(spent)))
    for (name, values), (colour, dashes) in zip(curves.items(), CYCLE, strict=False):
        axes.plot(
            [n * n for n in sizes[-len(values) :]],
            values,
            label=name,
            color=colour,
            linestyle=dashes,
            marker="o",
        )
    first, last = sizes[0] ** 2, sizes[-1] ** 2
    top = curves[f"r {ranks[0]}"][-1]
    axes.plot([first, last], [top * first / last, top], color="#6E6E6E", label="linear in n·m")
    axes.set(xscale="log", yscale="log", xlabel="n·m, n = m, bfloat16", ylabel="seconds")
    axes.legend(frameon=False)
    picture = RUNS / "init_growth.png"
    write_csv(picture, ("n", "entries", "work", "median_s", "min_s", "max_s"), rows)
    return save(figure, picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small shapes, in a minute or two")
    parser.add_argument("--model", choices=MODELS, default="llama-2-7b")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--exact", action="store_true", help="PiSSA's exact SVD too, once a shape")
    parser.add_argument("--growth", action="store_true", help="the picture of growth instead")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    if options.growth:
        print(growth(options.rounds, 2048 if options.quick else 16384))
        return
    model = "quick" if options.quick else options.model
    for dtype in (torch.float32, torch.bfloat16):
        for r in RANKS:
            layers(model, dtype, r, options.rounds, exact=options.exact)


if __name__ == "__main__":
    main()
