"""Peak memory of training steps: a process for each form, so that none sees another's.

loram bench memory --rank 16
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from loram.bench.errors import BenchError
from loram.bench.measurement import Stage
from loram.bench.settings import BenchSettings
from loram.bench.step import FLOOR, METHODS
from loram.bench.subject import adapted, base_model, batch_of, frozen, label, training_step
from loram.bench.table import Measured, Row
from loram.study.memory import peak, reset_peak

__all__ = ["measure"]

STEPS = 2  # AdamW's state is there in the second


def measure(settings: BenchSettings, stage: Stage) -> Iterator[Measured]:
    """A table for each dtype and rank.

    Raises:
        BenchError: the system does not tell a process's peak.
    """
    for dtype in settings.dtypes("bfloat16"):
        for r in settings.ranks(16):
            names = (FLOOR, *METHODS)
            tick = stage(f"memory {dtype} r {r}", len(names))
            peaks: dict[str, tuple[int, int]] = {}
            for name in names:
                peaks[name] = _in_a_process(settings, dtype, r, name)
                tick(1)
            yield Measured(
                f"memory_{dtype}_r{r}",
                f"peak memory of {STEPS} training steps, {label(settings)} {dtype}, float32 "
                f"adapters on all linear, r {r}",
                [_row(peaks, name) for name in names],
                "Of the whole process. Beyond the model: above what it held before the first step.",
            )


def _in_a_process(settings: BenchSettings, dtype: str, r: int, name: str) -> tuple[int, int]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peaks, settings, dtype, r, name).result()


def _peaks(settings: BenchSettings, dtype: str, r: int, name: str) -> tuple[int, int]:
    """Bytes when the model is made, and at most in the steps."""
    base = base_model(settings, dtype)
    ids = batch_of(settings, base)
    model = frozen(base) if name == FLOOR else adapted(base, name, rank=r)
    step = training_step(model, ids)
    reset_peak()
    before = peak()
    for _ in range(STEPS):
        step()
    most = peak()
    if before is None or most is None:
        raise BenchError("expected Linux or a GPU: this system does not tell a process's peak")
    return before, most


def _row(peaks: dict[str, tuple[int, int]], name: str) -> Row:
    before, most = peaks[name]
    plain, floor = peaks["lora"][1], peaks[FLOOR][1]
    return {
        "form": name,
        "peak (GB)": most / 1e9,
        "beyond the model (GB)": (most - before) / 1e9,
        "over lora": most / plain,
        "floor": None if name == FLOOR else FLOOR,
        "over floor": most / floor,
    }
