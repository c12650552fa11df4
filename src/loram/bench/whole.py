"""Putting an adapter on a real model, calibration included: SmolLM2 and MiniLM."""

import copy
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from loram.bench.measurement import Stage
from loram.bench.paired import Work, ratio, rounds
from loram.bench.settings import BenchSettings
from loram.bench.subject import adapted, base_model, pretrained, row
from loram.bench.table import Measured, Row

__all__ = ["STARTS", "WHOLE", "measure_whole"]

WHOLE = ("smollm2", "minilm")
STARTS = (
    *("lora", "loram", "loram-residual", "orthogonal", "olora", "pissa-niter-4", "pissa-niter-16"),
    *("lora-ga", "pissa", "corda-ipm"),
)
_NORMS = "norm of all weights"
_ALWAYS = ("lora", "loram")
_ONCE = ("pissa", "corda-ipm")
_SLOW = ("corda-ipm",)
EXAMPLES, TOKENS = 8, 64  # of the calibration stream


def measure_whole(
    name: str, settings: BenchSettings, stage: Stage, chosen: Sequence[str] = ()
) -> Iterator[Measured]:
    """A table for each dtype: seconds beyond plain LoRA's, and against one norm of every weight.

    Args:
        name: of the model.
        settings: of the measurement.
        stage: for progress bars.
        chosen: of `STARTS`; lora and loram are always there. By default all, the slow ones only
            if the settings say so.
    """
    count = settings.count(5)
    for dtype in settings.dtypes("bfloat16"):
        base = base_model(settings, dtype) if settings.quick else pretrained(name, dtype)
        kind = "SEQ_CLS" if name == "minilm" else "CAUSAL_LM"
        for r in settings.ranks(16):
            names = [each for each in STARTS if settings.slow or each not in _SLOW]
            if chosen:
                names = [each for each in STARTS if each in (*_ALWAYS, *chosen)]
            works = {_NORMS: Work(_norms(base))}
            for each in names:
                batches = _batches(base, kind) if row(each).data else None
                works[each] = _start(base, each, r, kind, batches)
            times = rounds(works, count, told=stage(f"{name} {dtype} r {r}", count + 1))
            yield Measured(
                f"models_{name}_{dtype}_r{r}",
                f"adding an adapter to {name}, {dtype}, all linear, r {r}, "
                f"{torch.get_num_threads()} threads, median of {count}",
                _rows(times),
                "What goes beyond lora is the start itself; the rest is PEFT's wrapping of layers.",
            )


def _start(base: Any, name: str, r: int, kind: str, batches: Any) -> Work:
    return Work(
        lambda model: adapted(model, name, rank=r, kind=kind, batches=batches),
        lambda: (copy.deepcopy(base),),
        once=name in _ONCE,
    )


def _norms(base: Any) -> Callable[[], object]:
    weights = [module.weight for module in base.modules() if isinstance(module, torch.nn.Linear)]
    return lambda: [weight.norm() for weight in weights]


def _batches(base: Any, kind: str) -> list[dict[str, Tensor]]:
    """Random token ids, an example a batch."""
    generator = torch.Generator().manual_seed(0)
    made: list[dict[str, Tensor]] = []
    for _ in range(EXAMPLES):
        ids = torch.randint(0, base.config.vocab_size, (1, TOKENS), generator=generator)
        labels = torch.zeros(1, dtype=torch.long) if kind == "SEQ_CLS" else ids
        made.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels})
    return made


def _rows(times: dict[str, list[float]]) -> list[Row]:
    plain = statistics.median(times["lora"])
    rows: list[Row] = []
    for name, spent in times.items():
        middle = statistics.median(spent)
        floor = name == _NORMS
        rows.append(
            {
                "work": name,
                "s": middle,
                "floor": None if floor else f"lora + {_NORMS}",
                "over floor": None
                if floor
                else middle / (plain + statistics.median(times[_NORMS])),
                "beyond lora (s)": None if floor else middle - plain,
                "over loram": ratio(times, name, "loram")["median"],
                "least": min(spent),
                "most": max(spent),
            }
        )
    return rows
