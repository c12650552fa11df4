"""One fine-tuning run: model, data, adapter, training, judgement, all in one folder.

    >>> run(TrainSettings(method="loram", lr=2e-4), Path("runs/first"))
    >>> run(TrainSettings(task="glue/mrpc", model="minilm", data="glue"), Path("runs/second"))

The folder holds `settings.json`, `adapter/` (`model/` for full fine-tuning), `magnitudes.jsonl`,
`losses.jsonl`, `answers.jsonl`, `curve.jsonl` if validation is judged on the way, `results.json`,
and checkpoints while it trains. A run that was killed goes on from its last checkpoint and ends
with the same numbers; one that is done is read, not run again; one that diverged says so again.
"""

import logging
import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from loram._version import __version__
from loram.files import write_json, write_lines
from loram.train.errors import DivergedError, RunError
from loram.train.folder import (
    checkpoint,
    mark_diverged,
    once,
    open_folder,
    take_over,
)
from loram.train.job import Job, Stage
from loram.train.kinds import prepare
from loram.train.model import pick_dtype
from loram.train.order import LengthOrderedTrainer
from loram.train.processes import count, first, first_goes_ahead, own_folder, share
from loram.train.settings import TrainSettings
from loram.train.subject import Subject, begin
from loram.train.watch import Curve, Watch, check_finite, median

__all__ = ["DivergedError", "RunError", "Stage", "run", "silent", "versions"]

logger = logging.getLogger(__name__)

_STATE = "trainer_state.json"
_SAID = ("written", "correct")  # of an answer; the rest is of its question


def silent(what: str, total: int | None) -> Callable[[int], None]:
    """A `Stage` without bars: it logs."""
    logger.info(what)
    return lambda n: None


def run(
    settings: TrainSettings,
    out: Path,
    *,
    baseline: Path | None = None,
    before: bool = True,
    stage: Stage = silent,
) -> dict[str, Any]:
    """Train, judge and save; returns what `results.json` holds.

    May be called any number of times in one process, with the numbers of a process of its own; and
    by every process of `torchrun` or `accelerate launch`, which then share each batch. What it
    returns is the first one's: the others get an empty dict.

    Args:
        settings: of the run.
        out: its folder; made, continued, or read if the run is done.
        baseline: folder of a run on the same model and data, whose figures before training are
            taken over instead of measured again.
        before: whether the model is judged before training, too; a study's runs need not each.
        stage: for progress bars.

    Raises:
        DivergedError: a loss or a metric is not finite; also when the run is repeated.
        RunError: `out` belongs to a run with other settings, or a batch can't be shared.
        DataError, ModelError, EmbeddedModelError, LoramError, ValueError: bad input, by its kind.
    """
    share(settings)
    with first_goes_ahead():
        done = open_folder(settings, out)
        if done is None and baseline is not None and first():
            take_over(settings, baseline, out)
    if done is not None:
        return done
    try:
        with own_folder(out) as own:
            return _run(settings, out, own, before, stage if first() else silent)
    except DivergedError as error:
        # Whoever ends first: a launcher may kill the others before they come to it.
        if out.is_dir():
            mark_diverged(out, error)
        raise


def _run(
    settings: TrainSettings, out: Path, own: Path, before: bool, stage: Stage
) -> dict[str, Any]:
    dtype = pick_dtype(settings.dtype)
    stage(f"reading {settings.model}", None)
    job = prepare(settings, dtype)
    if torch.cuda.is_available():
        job.model = job.model.to("cuda")

    def untrained() -> dict[str, Any]:
        return job.judge(job.model, "before", stage)._asdict()

    with first_goes_ahead():
        was = once(out / "before.json", untrained) if before and job.judged_before else None
    stage(f"starting {settings.method}", None)
    set_seed(settings.seed)
    began = time.perf_counter()
    subject = begin(job, settings, _calibration(job, settings), own)
    init_seconds = time.perf_counter() - began
    watch, losses = _train(job, subject, settings, out, stage)
    if not first():
        return {}
    after = job.judge(subject.model, "after", stage)
    check_finite("held-out ", after.metrics, settings.steps, settings.lr)
    validation = None
    if settings.validation_size:
        validation = job.judge(subject.model, "validation", stage).metrics
        check_finite("validation ", validation, settings.steps, settings.lr)
    update = subject.update()
    check_finite("", {"update": update or 0.0}, settings.steps, settings.lr)
    saved_bytes = subject.save(out, job.tokenizer) if settings.keep == "adapter" else None
    write_lines(out / "losses.jsonl", losses)
    if was is not None or after.rows:
        rows = None if was is None else was["rows"]
        write_lines(out / "answers.jsonl", _answers(rows, after.rows))
    task = settings.task_row
    results: dict[str, Any] = {
        "settings": settings.model_dump(),
        "dtype": str(dtype).removeprefix("torch."),
        "task": task.name,
        "metric": task.metric,
        "better": task.better,
        "metrics": {
            "before": None if was is None else was["metrics"],
            "validation": validation,
            "test": after.metrics,
        },
        "update": update,
        "init_seconds": init_seconds,
        "train_seconds": math.fsum(watch.seconds),
        "calibration": None if subject.used is None else subject.used._asdict(),
        "tokens_per_second": median(watch.rates),
        "step_seconds": median(watch.seconds),
        "saved": None if saved_bytes is None else subject.saved,
        "saved_bytes": saved_bytes,
        "trainable": sum(p.numel() for p in subject.model.parameters() if p.requires_grad),
        "processes": count(),
        "peak_memory_bytes": _peak_memory(),
        "versions": versions(),
    }
    write_json(out / "results.json", results)
    for folder in ("checkpoints", "start"):
        shutil.rmtree(out / folder, ignore_errors=True)
    return results


def _answers(
    before: list[dict[str, Any]] | None, after: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """What was written after training, beside what was before it if that is known."""
    for i, trained in enumerate(after):
        asked = {k: trained[k] for k in trained if k not in _SAID} if before is None else before[i]
        yield {**asked, "after": trained["written"], "correct_after": trained["correct"]}


def _train(
    job: Job, subject: Subject, settings: TrainSettings, out: Path, stage: Stage
) -> tuple[Watch, list[dict[str, Any]]]:
    """Train, from the last checkpoint if there is one; times, and the loss of every step."""
    watch = Watch(stage("training", settings.steps), settings.lr)
    curve = Curve(
        out / "curve.jsonl",
        settings.judge_every,
        lambda model: job.judge(model, "validation", silent, quick=True).metrics,
        watch,
        settings.lr,
    )
    judged = settings.judge_every and first()
    callbacks = [watch, *subject.callbacks, *([curve] if judged else [])]
    trainer = (LengthOrderedTrainer if settings.group_by_length else Trainer)(
        model=subject.model,
        args=_arguments(settings, subject, out),
        train_dataset=job.train,  # pyright: ignore[reportArgumentType]
        data_collator=job.collate,  # pyright: ignore[reportArgumentType]
        callbacks=callbacks,
        optimizers=(subject.optimizer, None),
        compute_loss_func=job.loss,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    with first_goes_ahead():
        last = checkpoint(out)
    if last is not None:
        watch.resume(last)
    if last is not None and _step_of(last) >= settings.steps:  # killed after the last step
        subject.restore(last)
        trainer.state = TrainerState.load_from_json(os.path.join(last, _STATE))
        if first():
            curve.cut(trainer.state.global_step)
    else:
        trainer.train(resume_from_checkpoint=last)
    losses = [
        {"step": entry["step"], "loss": entry["loss"]}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    return watch, losses


def _calibration(job: Job, settings: TrainSettings) -> Iterator[Mapping[str, Tensor]]:
    """The first training examples in batches, for a method that starts from data."""
    rows = job.train[: settings.calibrate_on]
    for at in range(0, len(rows), settings.batch_size):
        yield job.collate(rows[at : at + settings.batch_size])


def _arguments(settings: TrainSettings, subject: Subject, out: Path) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(out / "checkpoints"),
        max_steps=settings.steps,
        per_device_train_batch_size=share(settings),
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.lr,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_steps,
        logging_steps=1,
        logging_nan_inf_filter=False,
        include_num_input_tokens_seen="non_padding",
        save_strategy="steps" if settings.save_every else "no",
        save_steps=settings.save_every or settings.steps,
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


def _step_of(checkpoint: str) -> int:
    return int(checkpoint.rsplit("-", 1)[1])


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
