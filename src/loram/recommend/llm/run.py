"""One LLM recommender, trained and judged, all in one folder.

    >>> run(read_yaml("tallrec-small"), Path("runs/tallrec"))

The folder holds `settings.json`, `tables.safetensors` (the vectors), `adapter/` (`model/` for full
fine-tuning), `parts.safetensors` (projectors, router), `losses.jsonl`, `judged.jsonl`,
`scores.jsonl`, `results.json`, and a checkpoint while it trains. A run that was killed goes on from
there and ends with the same numbers; one that is done is read, not run again.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from loram.files import write_json, write_lines
from loram.recommend.llm.baselines import baselines
from loram.recommend.llm.batch import collate
from loram.recommend.llm.build import Built, build
from loram.recommend.llm.data import load
from loram.recommend.llm.encoders import tables_of
from loram.recommend.llm.examples import Example, Writer, window_of
from loram.recommend.llm.fit import Fit, fit, trainable
from loram.recommend.llm.folder import (
    drop_checkpoint,
    open_run,
    write_parts,
)
from loram.recommend.llm.judging import Scorer
from loram.recommend.llm.report import judged, score_lines, written
from loram.recommend.llm.settings import LLMSettings
from loram.train.model import load_pretrained, pick_dtype
from loram.train.run import versions

__all__ = ["StageBars", "run", "silent"]

logger = logging.getLogger(__name__)

_CALIBRATE_ON = 32  # shots that a data-driven method starts from
StageBars = Callable[[str, int | None], Callable[[int], None]]
"""(what is being done, how many parts) → function told of every part that is done."""


def silent(what: str, total: int | None) -> Callable[[int], None]:
    """A `StageBars` without bars: it logs."""
    logger.info(what)
    return lambda n: None


def run(settings: LLMSettings, out: Path, *, bars: StageBars = silent) -> dict[str, Any]:
    """Train, judge and save; returns what `results.json` holds.

    Args:
        settings: of the run.
        out: its folder; made, continued, or read if the run is done.
        bars: for progress.

    Raises:
        RecommendError: data, prompts, vectors or settings that can't be used; `out` belongs to
            another run; training diverged.
        LoramError, ModelError, EmbeddedModelError, StartError: by their kinds.
    """
    done = open_run(settings.model_dump(mode="json"), out)
    if done is not None:
        return done
    bars(f"reading {settings.data.source}", None)
    asked = load(settings.data, seed=settings.seed)
    bars(f"vectors: {settings.encoder.name}", None)
    tables = tables_of(settings, asked, out)
    bars(f"reading {settings.model}", None)
    dtype = pick_dtype(settings.dtype)
    llm, tokenizer = load_pretrained(settings.model, dtype)
    if torch.cuda.is_available():
        llm = llm.to("cuda")
    writer = Writer(settings, tokenizer, asked.data.titled(), window_of(llm))
    train, valid, test = (
        [writer(c) for c in p.cases] for p in (asked.train, asked.valid, asked.test)
    )
    pad = tokenizer.pad_token_id
    bars(f"starting {settings.adapter.method}", None)
    calibration = _calibration(train, settings.micro_batch or settings.batch_size, pad)
    built = build(llm, settings, tables, calibration, out)
    scorer = Scorer(
        writer.words, pad, yes_alone=settings.score == "yes", batch_size=settings.batch_size
    )

    def judge(hybrid: bool) -> float:
        return scorer.one_number(built.model, valid, hybrid=hybrid)

    began = time.perf_counter()
    groups = _groups(built, settings.lr)
    asked_of = (train, writer.words, pad, judge if valid else None)
    training = Fit(built.model, settings, *asked_of, groups, out)
    lines = fit(training, progress=bars)
    seconds = time.perf_counter() - began
    write_lines(out / "losses.jsonl", [line for line in lines if "loss" in line])
    write_lines(out / "judged.jsonl", [line for line in lines if "valid" in line])
    save(built, out, tokenizer)
    scores = judge_all(settings, built.model, test, scorer, bars)
    trained = {part for stage in settings.stages for part in stage.trains}
    of = trainable(built.model, groups)
    parameters = sum(p.numel() for part in trained for p in of[part])
    results: dict[str, Any] = {
        "settings": settings.model_dump(mode="json"),
        "dtype": str(dtype).removeprefix("torch."),
        "examples": {"train": len(train), "valid": len(valid), "test": len(test)},
        "baselines": baselines(asked, tables, test, settings.resamples),
        "metrics": {
            name: judged(test, found, settings.resamples) for name, found in scores.items()
        },
        "published": settings.published,
        "vocabulary": asked.data.vocabulary(),
        "truncated": max(writer.text.truncated, writer.hybrid.truncated),
        "trainable": parameters,
        "train_seconds": seconds,
        "versions": versions(),
    }
    if settings.written:
        results["written"] = written(settings, built.model, tokenizer, test, writer, bars)
    write_lines(out / "scores.jsonl", score_lines(asked, test, scores))
    write_json(out / "results.json", results)
    drop_checkpoint(out)
    return results


def save(built: Built, out: Path, tokenizer: Any) -> None:
    """The language model's part by its own kind, and the parts around it."""
    built.subject.save(out, tokenizer)
    named = dict(built.model.named_parameters())
    rest = {name: p for name, p in named.items() if not name.startswith("llm.")}
    write_parts(out, rest)


def judge_all(
    settings: LLMSettings,
    model: Any,
    test: Sequence[Example],
    scorer: Scorer,
    bars: StageBars,
) -> dict[str, Tensor]:
    """Scores of the finished model, of text prompts alone, and of the controls."""
    name = f"{settings.name}, {settings.adapter.method}"
    scores = {name: scorer(model, test, hybrid=settings.is_hybrid, progress=bars(name, len(test)))}
    if settings.is_hybrid:
        label = "the same, text prompts"
        scores[label] = scorer(model, test, hybrid=False, progress=bars(label, len(test)))
    if settings.is_hybrid or settings.adapter.experts > 1:
        whole = model.vectors
        for control in settings.controls:
            label = f"the same, {control} vectors"
            model.vectors = whole.controlled(control, seed=settings.seed).to(model.device)
            scores[label] = scorer(
                model, test, hybrid=settings.is_hybrid, progress=bars(label, len(test))
            )
        model.vectors = whole
    return scores


def _groups(built: Built, lr: float) -> list[tuple[list[nn.Parameter], float]]:
    """The adapter's parameters with the ratio of their rate, as the method has it (LoRA+)."""
    own = built.subject.optimizer
    if own is not None:
        return [(list(group["params"]), group["lr"] / lr) for group in own.param_groups]
    return [([p for p in built.model.llm.parameters() if p.requires_grad], 1.0)]


def _calibration(
    train: Sequence[Example], batch_size: int, pad: int
) -> Iterator[dict[str, Tensor]]:
    """The first shots' text prompts with their answers."""
    rows = train[:_CALIBRATE_ON]
    for first in range(0, len(rows), batch_size):
        part = rows[first : first + batch_size]
        batch = collate([e.text for e in part], [e.answer for e in part], [0] * len(part), pad)
        yield {"input_ids": batch.ids, "attention_mask": batch.mask, "labels": batch.labels}
