"""One fine-tuning run: model, data, adapter, training, judgement, all in one folder.

    >>> run(TrainSettings(method="loram", lr=2e-4), Path("runs/first"))

The folder holds `settings.json`, `adapter/` (`model/` for full fine-tuning), `magnitudes.jsonl`,
`losses.jsonl`, `answers.jsonl`, `results.json`, and checkpoints while it trains. A run that was
killed goes on from its last checkpoint and ends with the same numbers; one that is done is read,
not run again.
"""

import json
import logging
import math
import os
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from loram._version import __version__
from loram.files import is_leftover, write_text
from loram.tasks import load
from loram.train.encode import Collate, Encoded, encode
from loram.train.evaluate import held_out_loss, write_answers
from loram.train.model import load_pretrained, pick_dtype
from loram.train.settings import TrainSettings
from loram.train.subject import StartError, Subject, begin

__all__ = ["RunError", "Stage", "run", "silent", "versions"]

logger = logging.getLogger(__name__)

# What the figures before training depend on.
_JUDGED_BY = (
    "model",
    "data",
    "data_config",
    "dtype",
    "prompt",
    "max_length",
    "train_size",
    "held_out_size",
    "answers",
    "max_new_tokens",
    "seed",
)
_STATE = "trainer_state.json"
_WHOLE = "whole"  # a checkpoint holds this file once everything in it is written

Stage = Callable[[str, int | None], Callable[[int], None]]
"""(what is being done, how many parts) → function told of every part that is done."""


class RunError(RuntimeError):
    """The run can't go on; the message says why and what to do."""


def silent(what: str, total: int | None) -> Callable[[int], None]:
    """A `Stage` without bars: it logs."""
    logger.info(what)
    return lambda n: None


def run(
    settings: TrainSettings, out: Path, *, baseline: Path | None = None, stage: Stage = silent
) -> dict[str, Any]:
    """Train, judge and save; returns what `results.json` holds.

    Args:
        settings: of the run.
        out: its folder; made, continued, or read if the run is done.
        baseline: folder of a run on the same model and data, whose figures before training are
            taken over instead of measured again.
        stage: for progress bars.

    Raises:
        RunError: `out` belongs to a run with other settings, or training diverged.
        DataError, ModelError, EmbeddedModelError, LoramError, ValueError: bad input, by its kind.
    """
    done = _open(settings, out)
    if done is not None:
        return done
    if baseline is not None:
        _take_over(settings, baseline, out)
    dtype = pick_dtype(settings.dtype)
    stage(f"reading {settings.model}", None)
    model, tokenizer = load_pretrained(settings.model, dtype)
    data = load(
        settings.data,
        train_size=settings.train_size,
        held_out_size=settings.held_out_size,
        seed=settings.seed,
        config=settings.data_config,
    )
    train = encode(tokenizer, data.train, settings.prompt, settings.max_length)
    held_out = encode(tokenizer, data.held_out, settings.prompt, settings.max_length)
    if torch.cuda.is_available():
        model = model.to("cuda")

    def judge(what: str, subject: Any) -> dict[str, Any]:
        tick = stage(f"held-out loss {what}", len(held_out))
        loss = held_out_loss(
            subject, held_out, tokenizer.pad_token_id, batch_size=settings.batch_size, progress=tick
        )
        judged: dict[str, Any] = {"loss": loss}
        asked = data.held_out[: settings.answers]
        if asked:
            tick = stage(f"answers {what}", len(asked))
            written = write_answers(
                subject,
                tokenizer,
                asked,
                settings.prompt,
                max_new_tokens=settings.max_new_tokens,
                progress=tick,
            )
            judged["exact_match"] = sum(each.correct for each in written) / len(written)
            judged["answers"] = [each._asdict() for each in written]
        return judged

    before = _once(out / "before.json", lambda: judge("before", model))
    stage(f"starting {settings.method}", None)
    set_seed(settings.seed)
    began = time.perf_counter()
    collate = Collate(tokenizer.pad_token_id)
    try:
        subject = begin(model, settings, _calibration(train, collate, settings), out)
    except StartError as error:
        raise RunError(str(error)) from error
    init_seconds = time.perf_counter() - began
    model = subject.model
    watch = _Watch(stage("training", settings.steps))
    trainer = Trainer(
        model=model,
        args=_arguments(settings, subject, out),
        train_dataset=train,  # pyright: ignore[reportArgumentType]
        data_collator=collate,
        callbacks=[*subject.callbacks, watch],
        optimizers=(subject.optimizer, None),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    last = _checkpoint(out)
    if last is not None and _step_of(last) >= settings.steps:  # killed after the last step
        subject.restore(last)
        trainer.state = TrainerState.load_from_json(os.path.join(last, _STATE))
    else:
        trainer.train(resume_from_checkpoint=last)
    losses = [
        {"step": entry["step"], "loss": entry["loss"]}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    broken = next((each for each in losses if not math.isfinite(each["loss"])), None)
    if broken is not None:
        raise RunError(
            f"training diverged: the loss is {broken['loss']} at step {broken['step']}, at lr "
            f"{settings.lr:g}. Use a lower learning rate, in a new folder"
        )
    after = judge("after", model)
    if not math.isfinite(after["loss"]):
        raise RunError(
            f"training diverged: the held-out loss is {after['loss']} after step {settings.steps}, "
            f"at lr {settings.lr:g}. Use a lower learning rate, in a new folder"
        )
    saved_bytes = subject.save(out, tokenizer)
    answers = [
        {**was, "after": now["written"], "correct_after": now["correct"]}
        for was, now in zip(before.get("answers", []), after.get("answers", []), strict=True)
    ]
    _write_lines(out / "losses.jsonl", losses)
    _write_lines(out / "answers.jsonl", answers)
    results: dict[str, Any] = {
        "settings": settings.model_dump(),
        "dtype": str(dtype).removeprefix("torch."),
        "init_seconds": init_seconds,
        "calibration": None if subject.used is None else subject.used._asdict(),
        "loss_before": before["loss"],
        "loss_after": after["loss"],
        "exact_match_before": before.get("exact_match"),
        "exact_match_after": after.get("exact_match"),
        "tokens_per_second": _median(watch.rates),
        "step_seconds": _median(watch.seconds),
        "saved": subject.saved,
        "saved_bytes": saved_bytes,
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "peak_memory_bytes": _peak_memory(),
        "versions": versions(),
    }
    _write_json(out / "results.json", results)
    for folder in ("checkpoints", "start"):
        shutil.rmtree(out / folder, ignore_errors=True)
    return results


def _calibration(
    train: Sequence[Encoded], collate: Collate, settings: TrainSettings
) -> Iterator[dict[str, Tensor]]:
    """The first training examples in batches, for a method that starts from data."""
    rows = train[: settings.calibrate_on]
    for first in range(0, len(rows), settings.batch_size):
        yield collate(rows[first : first + settings.batch_size])


def _open(settings: TrainSettings, out: Path) -> dict[str, Any] | None:
    """Results if the run is done; else its folder is ready to start or go on."""
    known = out / "settings.json"
    mine = settings.model_dump()
    if known.exists():
        theirs = _read_json(known)
        if theirs != mine:
            changed = sorted(k for k in {*theirs, *mine} if theirs.get(k) != mine.get(k))
            raise RunError(
                f"{out} belongs to a run with other settings ({', '.join(changed)}): name another "
                "folder, or remove it"
            )
    else:
        try:
            out.mkdir(parents=True, exist_ok=True)
            others = [path for path in out.iterdir() if not is_leftover(path)]
        except OSError as error:
            raise RunError(f"can't make {out} ({error}): name another folder") from error
        if others:
            raise RunError(f"{out} exists and is not a run: name another folder")
        _write_json(known, mine)
    results = out / "results.json"
    return _read_json(results) if results.exists() else None


def _take_over(settings: TrainSettings, baseline: Path, out: Path) -> None:
    """Copy `before.json` of another run, if it was judged just as this one is going to be."""
    try:
        theirs = _read_json(baseline / "settings.json")
        before = _read_json(baseline / "before.json")
    except RunError as error:
        raise RunError(f"baseline {baseline} is not a run that was begun: {error}") from error
    mine = settings.model_dump()
    other = [name for name in _JUDGED_BY if theirs.get(name) != mine[name]]
    if other:
        raise RunError(
            f"baseline {baseline} was judged otherwise ({', '.join(other)} differ): expected the "
            "same model and data"
        )
    _write_json(out / "before.json", before)


def _arguments(settings: TrainSettings, subject: Subject, out: Path) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(out / "checkpoints"),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.lr,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_steps,
        logging_steps=1,
        logging_nan_inf_filter=False,
        include_num_input_tokens_seen="non_padding",
        save_steps=settings.save_every,
        save_total_limit=2,
        bf16=subject.autocast,
        seed=settings.seed,
        data_seed=settings.seed,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
    )
    # One process uses one GPU: the Trainer would else multiply the batch by their number.
    arguments._n_gpu = min(arguments.n_gpu, 1)  # pyright: ignore[reportPrivateUsage]
    return arguments


def _checkpoint(out: Path) -> str | None:
    """The newest checkpoint that was written whole; what a kill left half written is dropped."""
    folder = out / "checkpoints"
    if not folder.is_dir():
        return None
    while (last := get_last_checkpoint(str(folder))) is not None:
        if (Path(last) / _WHOLE).exists():
            return last
        logger.warning("%s was cut short and is dropped", last)
        shutil.rmtree(last)
    return None


def _step_of(checkpoint: str) -> int:
    return int(checkpoint.rsplit("-", 1)[1])


class _Watch(TrainerCallback):
    """Times and tokens of the steps, the progress bar, whole checkpoints, and divergence."""

    def __init__(self, tick: Callable[[int], None]) -> None:
        self._tick = tick
        self._began, self._tokens = 0.0, 0
        self.seconds: list[float] = []
        self.rates: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._tick(state.global_step)
        self._tokens = state.num_input_tokens_seen

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        seconds = time.perf_counter() - self._began
        self.seconds.append(seconds)
        self.rates.append((state.num_input_tokens_seen - self._tokens) / seconds)
        self._tokens = state.num_input_tokens_seen
        self._tick(1)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        loss = (kwargs.get("logs") or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if folder.is_dir():
            (folder / _WHOLE).touch()


def _median(values: list[float]) -> float | None:
    """Without the first, which warms up."""
    return statistics.median(values[1:] or values) if values else None


def _peak_memory() -> int:
    """Bytes: of the GPU if there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def versions() -> dict[str, str]:
    """Of everything that decides a number."""
    packages = ("torch", "transformers", "peft", "accelerate")
    return {
        "loram": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }


def _once(file: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the file holds, or what is computed and put there."""
    if file.exists():
        return _read_json(file)
    value = compute()
    _write_json(file, value)
    return value


def _read_json(file: Path) -> dict[str, Any]:
    """The object in a file of a run.

    Raises:
        RunError: there is none.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"can't read {file}: expected a file of a run ({error})") from error
    if not isinstance(value, dict):
        raise RunError(f"{file}: expected a JSON object, got {type(value).__name__}: remove it")
    return cast(dict[str, Any], value)


def _write_json(file: Path, value: Any) -> None:
    write_text(file, json.dumps(value, indent=2) + "\n")


def _write_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    write_text(file, "".join(json.dumps(row) + "\n" for row in rows))
