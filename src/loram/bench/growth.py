"""How the start's time grows: with the number of entries of W, and with the rank.

loram bench growth --dtype bfloat16 --largest 16384
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import torch

from loram.bench.errors import BenchError
from loram.bench.layer import layer_works, weight
from loram.bench.measurement import Stage
from loram.bench.paired import rounds
from loram.bench.settings import BenchSettings
from loram.bench.table import Measured, Row
from loram.figures.style import CYCLE, GREY, canvas, save, write_csv

__all__ = ["measure", "slope"]

SMALLEST, TINY = 512, (64, 256)
RANKS = (16, 128, 512)
FORMS = ("loram", "loram-residual")
MANY_RANKS = (2, 8, 32, 128, 512, 2048)
Curves = dict[str, list[tuple[float, float]]]
"""(size, seconds) by what was timed."""


def measure(settings: BenchSettings, stage: Stage) -> Iterator[Measured]:
    """A table and a picture for each dtype: against n·m at several ranks, then against r.

    Raises:
        BenchError: the largest width is not above the smallest.
        FigureError: matplotlib is not installed.
    """
    first, last = TINY if settings.quick else (SMALLEST, settings.largest)
    widths = [first * 2**i for i in range(int(math.log2(max(last, 1) / first)) + 1)]
    if last < 2 * first:
        raise BenchError(f"expected --largest of {2 * first} or more, got {last}")
    canvas()  # says that matplotlib is missing before minutes are spent
    for dtype in settings.dtypes("float32"):
        yield _with_size(dtype, widths, settings, stage)
        yield _with_rank(dtype, min(4096, widths[-1]), settings, stage)


def _with_size(
    dtype: str, widths: Sequence[int], settings: BenchSettings, stage: Stage
) -> Measured:
    count = settings.count(5)
    ranks = settings.ranks(*RANKS)
    tick = stage(f"growth with n·m {dtype}", len(widths) * (count + 1))
    curves: Curves = {}
    for n in widths:
        W = weight((n, n), dtype)
        works = layer_works(W, 2, (), floors=("read", "norm"))
        for r in ranks:
            if r <= n // 2:
                for name, work in layer_works(W, r, FORMS, floors=()).items():
                    works[f"{name} r {r}"] = work
        for name, spent in rounds(works, count, told=tick).items():
            curves.setdefault(name, []).append((n * n, statistics.median(spent)))
        del W, works  # before the next, four times as large, is made
    return _drawn(f"growth_{dtype}", f"n·m of a square W, {dtype}", curves, settings, count)


def _with_rank(dtype: str, n: int, settings: BenchSettings, stage: Stage) -> Measured:
    count = settings.count(5)
    ranks = [r for r in MANY_RANKS if r <= n // 2]
    tick = stage(f"growth with r {dtype}", count + 1)
    W = weight((n, n), dtype)
    works = {
        f"{name}/{r}": work
        for r in ranks
        for name, work in layer_works(W, r, (*FORMS, "lora"), floors=()).items()
    }
    curves: Curves = {}
    for key, spent in rounds(works, count, told=tick).items():
        name, r = key.split("/")
        curves.setdefault(name, []).append((float(r), statistics.median(spent)))
    axis = f"r of W {n}x{n}, {dtype}"
    return _drawn(f"growth_rank_{dtype}", axis, curves, settings, count)


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Least-squares exponent of seconds against size, in logarithms; None of fewer than two."""
    if len(points) < 2:
        return None
    xs, ys = ([math.log(value) for value in axis] for axis in zip(*points, strict=True))
    return statistics.linear_regression(xs, ys).slope


def _drawn(name: str, axis: str, curves: Curves, settings: BenchSettings, count: int) -> Measured:
    files = _picture(settings, name, axis, curves)
    return Measured(
        name,
        f"the start's time against {axis}, {torch.get_num_threads()} threads, median of {count}",
        _rows(curves),
        "Slope: exponent of the time, over all sizes and over the larger half. 1 is linear, "
        "0 constant.",
        files,
    )


def _rows(curves: Mapping[str, Sequence[tuple[float, float]]]) -> list[Row]:
    sizes = sorted({size for points in curves.values() for size, _ in points})
    large = sizes[len(sizes) // 2 :]
    rows: list[Row] = []
    for name, points in curves.items():
        at = dict(points)
        rows.append(
            {
                "work": name,
                **{f"{size:.3g} (ms)": 1e3 * at[size] if size in at else None for size in sizes},
                "slope": slope(points),
                f"slope from {large[0]:.3g}": slope([each for each in points if each[0] in large]),
            }
        )
    return rows


def _picture(settings: BenchSettings, name: str, axis: str, curves: Curves) -> tuple[Path, ...]:
    figure, (axes,) = canvas()
    for (label, points), (colour, dashes, marker) in zip(curves.items(), _cycle(), strict=False):
        sizes, times = zip(*points, strict=True)
        axes.plot(sizes, times, label=label, color=colour, linestyle=dashes, marker=marker)
    sizes = sorted({size for points in curves.values() for size, _ in points})
    top = max(points[-1][1] for points in curves.values())
    first, last = sizes[0], sizes[-1]
    axes.plot([first, last], [top * first / last, top], color=GREY, linewidth=0.8, label="linear")
    axes.set(xscale="log", yscale="log", xlabel=axis, ylabel="seconds")
    axes.legend(frameon=False, fontsize="small")
    picture = settings.out / f"{name}.png"
    tidy = [(label, size, time) for label, points in curves.items() for size, time in points]
    data = write_csv(picture, ("work", "size", "seconds"), tidy)
    return save(figure, picture), picture.with_suffix(".svg"), data


def _cycle() -> Iterator[tuple[str, str, str]]:
    """Colour, dashes and marker; when the colours are used up, with the next marker."""
    for marker in cycle("os^D"):
        yield from ((colour, dashes, marker) for colour, dashes in CYCLE)
