"""DreamBooth (arXiv 2208.12242): LoRA on the denoiser of a pipeline, from a few images.

    >>> dreambooth(DreamBoothSettings(images="dog", prompt="a photo of sks dog"), Path("runs/dog"))

The folder holds `settings.json`, `pytorch_lora_weights.safetensors` for `load_lora_weights`,
`losses.jsonl`, `results.json`, `grid.png` if images are drawn on the way, and, while it trains,
`encoded.safetensors` and `checkpoint.pt`. A step's images, noise and times depend on the seed and
the step alone, so a run that was killed goes on from its checkpoint with the same numbers.
"""

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loram.files import write_json, write_lines
from loram.peft.attach import lora_plus
from loram.peft.denoisers import attach_denoiser, records_state
from loram.peft.pipelines import save_lora_weights
from loram.train.errors import DivergedError
from loram.train.folder import mark_diverged, once, open_folder
from loram.train.job import Stage
from loram.train.model import pick_dtype
from loram.train.run import silent, versions
from loram.train.watch import check_finite, median
from loram.vision.cache import Encoded, encoded
from loram.vision.errors import VisionError
from loram.vision.families import Family, check_size, family_of
from loram.vision.losses import Noising, noising_of
from loram.vision.settings import DreamBoothSettings
from loram.vision.state import load_state, save_state
from loram.vision.validation import Validation

__all__ = ["dreambooth"]

_JUDGED, _JUDGED_FROM = 8, 10**9  # draws, and the "step" of the first


def dreambooth(settings: DreamBoothSettings, out: Path, *, stage: Stage = silent) -> dict[str, Any]:
    """Train and save; returns what `results.json` holds.

    Args:
        settings: of the run.
        out: its folder; made, continued, or read if the run is done.
        stage: for progress bars.

    Raises:
        DivergedError: a loss is not finite; also when the run is repeated.
        RunError: `out` belongs to a run with other settings.
        VisionError, LoramError, ValueError: bad input, by its kind.
    """
    done = open_folder(settings, out)
    if done is not None:
        return done
    try:
        return _run(settings, out, stage)
    except DivergedError as error:
        mark_diverged(out, error)
        raise


def _run(settings: DreamBoothSettings, out: Path, stage: Stage) -> dict[str, Any]:
    stage(f"reading {settings.model}", None)
    pipeline = _load(settings)
    family = family_of(pipeline)
    check_size(pipeline, family, settings.size)
    noising = noising_of(pipeline, family)
    data = encoded(
        pipeline, family, settings, out / "encoded.safetensors", stage("encoding images", None)
    )
    validation = Validation(pipeline, family, settings, out)
    if settings.validation_prompt is None:
        for name in ("vae", "text_encoder", "text_encoder_2", "text_encoder_3"):
            if hasattr(pipeline, name):
                setattr(pipeline, name, None)  # their memory is the denoiser's now
    model = getattr(pipeline, family.part)
    stage(f"starting {settings.method}", None)
    with torch.random.fork_rng():  # PEFT draws from the global generator
        torch.manual_seed(settings.seed)
        start = attach_denoiser(
            model,
            settings.row,
            rank=settings.rank,
            alpha=settings.lora_alpha,
            targets=[name.strip() for name in settings.target_modules.split(",")],
        )
    if settings.grad_checkpointing:
        model.enable_gradient_checkpointing()
    before = once(
        out / "before.json",
        lambda: {"before": _judged(model, family, noising, data, settings)},
    )
    losses, seconds = _train(model, family, noising, data, settings, out, validation, start, stage)
    starts = None if start is None else {family.part: start}
    saved = save_lora_weights(out, {family.part: model}, starts=starts)
    write_lines(out / "losses.jsonl", [{"step": i, "loss": x} for i, x in enumerate(losses, 1)])
    grid = validation.grid()
    results: dict[str, Any] = {
        "settings": settings.model_dump(),
        "pipeline": type(pipeline).__name__,
        "images": {name: len(data[f"{name}.mean"]) for name in _sets(data)},
        "loss": {**before, "after": _judged(model, family, noising, data, settings)},
        "train_seconds": math.fsum(seconds),
        "step_seconds": median(seconds),
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "saved": saved.file.name,
        "saved_rank": saved.ranks[family.part],
        "saved_bytes": saved.bytes,
        "grid": None if grid is None else grid.name,
        "versions": versions(),
    }
    write_json(out / "results.json", results)
    for name in ("checkpoint.pt", "encoded.safetensors", "before.json"):
        (out / name).unlink(missing_ok=True)
    return results


def _load(settings: DreamBoothSettings) -> Any:
    try:
        from diffusers import DiffusionPipeline
    except ImportError as error:
        raise VisionError(
            f"DreamBooth needs diffusers ({error}): pip install 'loram[vision]'"
        ) from error
    dtype = pick_dtype(settings.dtype)
    try:
        pipeline = DiffusionPipeline.from_pretrained(settings.model, dtype=dtype)
    except (OSError, ValueError, AttributeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise VisionError(
            f"can't load the pipeline {settings.model!r}: {first}. Expected a folder with "
            "model_index.json, or a hub id"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda" if torch.cuda.is_available() else "cpu")


def _train(
    model: Any,
    family: Family,
    noising: Noising,
    data: Encoded,
    settings: DreamBoothSettings,
    out: Path,
    validation: Validation,
    start: dict[str, Tensor] | None,
    stage: Stage,
) -> tuple[list[float], list[float]]:
    """Loss and seconds of every step."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    adamw: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    optimizer = lora_plus(model, settings.row, **adamw)
    if optimizer is None:
        optimizer = torch.optim.AdamW(trained.values(), **adamw)
    rates = [group["lr"] for group in optimizer.param_groups]
    file = out / "checkpoint.pt"
    fingerprint = records_state(model) if start is None else start
    losses, seconds = load_state(file, trained, optimizer, fingerprint)
    tick = stage("training", settings.steps)
    tick(len(losses))
    model.train()
    if not losses:
        validation.draw(0)
    for step in range(len(losses), settings.steps):
        began = time.perf_counter()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * min(1.0, (step + 1) / max(1, settings.warmup_steps))
        loss = _loss(model, family, noising, data, settings, step)
        check_finite("", {"loss": loss.item()}, step + 1, settings.lr)
        loss.backward()
        if settings.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(trained.values(), settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - began)
        if (step + 1) % settings.validate_every == 0 or step + 1 == settings.steps:
            validation.draw(step + 1)
        if settings.save_every and (step + 1) % settings.save_every == 0:
            save_state(file, trained, optimizer, fingerprint, losses, seconds)
        tick(1)
    model.eval()
    return losses, seconds


@torch.no_grad()
def _judged(
    model: Any, family: Family, noising: Noising, data: Encoded, settings: DreamBoothSettings
) -> float:
    """Mean loss over draws that no step has: a step's own is mostly of its noise and time."""
    draws = range(_JUDGED_FROM, _JUDGED_FROM + _JUDGED)
    model.eval()
    each = [_loss(model, family, noising, data, settings, step).item() for step in draws]
    return math.fsum(each) / _JUDGED


def _loss(
    model: Any,
    family: Family,
    noising: Noising,
    data: Encoded,
    settings: DreamBoothSettings,
    step: int,
) -> Tensor:
    """Of one step: the subject's, and the class's by its weight. Drawn anew from (seed, step)."""
    draw = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
    device, dtype = next(model.parameters()).device, model.dtype
    total = torch.zeros((), device=device)
    for name, weight in _sets(data).items():
        mean, std = data[f"{name}.mean"], data[f"{name}.std"]
        rows = torch.randint(len(mean), (settings.batch_size,), generator=draw)
        latents = mean[rows] + std[rows] * torch.randn(mean[rows].shape, generator=draw)
        noised = noising(latents.to(device), draw)
        prefix = f"{name}.text."
        texts = {
            key.removeprefix(prefix): each.to(device, dtype).expand(len(rows), *each.shape[1:])
            for key, each in data.items()
            if key.startswith(prefix)
        }
        said = family.predict(
            model,
            noised.latents.to(dtype),
            noised.t.to(device),
            texts,
            settings.size,
            settings.guidance,
        )
        error = (said.float() - noised.target.float()).square().mean()
        total = total + (settings.prior_weight if weight is None else weight) * error
    return total


def _sets(data: Encoded) -> dict[str, float | None]:
    """Sets of images by name; the class's weight is the settings'."""
    return {"subject": 1.0} | ({"class": None} if "class.mean" in data else {})
