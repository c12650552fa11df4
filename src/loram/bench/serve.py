"""Inference with a trained adapter: merged, as plain LoRA of rank 2r, unmerged, against the base.

loram bench serve --rank 16
"""

import copy
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loram.bench.measurement import Stage
from loram.bench.paired import ratio, rounds
from loram.bench.settings import BenchSettings
from loram.bench.subject import base_model, batch_of, label, saved
from loram.bench.table import Measured, Row
from loram.peft.attach import load_adapter
from loram.peft.export import export_plain

__all__ = ["measure"]

FLOOR = "base"
NEW_TOKENS, TINY = 32, 3


def measure(settings: BenchSettings, stage: Stage) -> Iterator[Measured]:
    """For each dtype and rank a table: tokens/s of reading a prompt, and of generating."""
    count = settings.count(5)
    new = TINY if settings.quick else NEW_TOKENS
    for dtype in settings.dtypes("bfloat16"):
        base = base_model(settings, dtype)
        ids = batch_of(settings, base)[:1]
        for r in settings.ranks(16):
            models = _models(base, r)
            works: dict[str, Callable[[], object]] = {}
            for name, model in models.items():
                works[f"{name}/prompt"] = _reads(model, ids)
                works[f"{name}/generate"] = _writes(model, ids[:, :16], new)
            times = rounds(works, count, told=stage(f"serve {dtype} r {r}", count + 1))
            tokens = {"prompt": ids.numel(), "generate": new}
            yield Measured(
                f"serve_{dtype}_r{r}",
                f"inference, {label(settings)} {dtype}, adapters on all linear, r {r}: a prompt of "
                f"{ids.numel()} tokens, {new} new ones after 16; "
                f"{torch.get_num_threads()} threads, median of {count}",
                [_row(times, name, tokens) for name in models],
            )


def _models(base: Any, r: int) -> dict[str, Any]:
    """The ways to serve: each with weights of its own, so that none warms another's."""
    with tempfile.TemporaryDirectory() as scratch:
        ours, residual, plain, same = (
            Path(scratch, name) for name in ("loram", "residual", "plain", "lora")
        )
        saved(copy.deepcopy(base), "loram", ours, rank=r)
        saved(copy.deepcopy(base), "loram-residual", residual, rank=r)
        saved(copy.deepcopy(base), "lora", same, rank=r)
        export_plain(ours, plain)
        return {
            FLOOR: copy.deepcopy(base).eval(),
            "loram, merged": load_adapter(copy.deepcopy(base), ours).merge_and_unload(),
            "loram": load_adapter(copy.deepcopy(base), ours),
            "loram-residual": load_adapter(copy.deepcopy(base), residual),
            "loram, exported (rank 2r)": load_adapter(copy.deepcopy(base), plain),
            "lora": load_adapter(copy.deepcopy(base), same),
        }


def _reads(model: Any, ids: Tensor) -> Callable[[], object]:
    @torch.inference_mode()
    def read() -> object:
        return model(input_ids=ids, logits_to_keep=1)

    return read


def _writes(model: Any, ids: Tensor, new: int) -> Callable[[], object]:
    options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}

    @torch.inference_mode()
    def write() -> object:
        return model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)

    return write


def _row(times: dict[str, list[float]], name: str, tokens: dict[str, int]) -> Row:
    row: Row = {"model": name, "floor": None if name == FLOOR else FLOOR}
    for what, count in tokens.items():
        over = ratio(times, f"{name}/{what}", f"{FLOOR}/{what}")
        row[f"{what} tokens/s"] = count / statistics.median(times[f"{name}/{what}"])
        row[f"{what} over floor"] = over["median"]
        row[f"{what} least"] = over["min"]
        row[f"{what} most"] = over["max"]
    return row
