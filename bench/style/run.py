"""One adaptation run, and what it is to be seen beside."""

import json
import math
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from denoiser import SIZE, TARGETS, Denoiser, draw, loss, noising
from emoji_set import pixels, split
from features import Eye, distances
from pictures import save_image
from torch import Tensor

from loram.methods import named
from loram.peft.attach import lora_plus
from loram.peft.denoisers import attach_denoiser
from loram.probe import MagnitudeProbe
from loram.study.record import Judged, Record

SHOWN, DRAWING_STEPS = 8, 12


def adapted(settings: dict[str, Any], out: Path, key: str, versions: dict[str, str]) -> Record:
    """Train, judge, and leave images of some emoji in the run's folder."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    shutil.rmtree(out, ignore_errors=True)  # what a kill left
    out.mkdir(parents=True)
    names, images = emoji(Path(settings["model"]), Path(settings["data"]))
    parts = split(
        len(names), validation=settings["validation_images"], test=settings["test_images"]
    )
    by_seed = torch.Generator().manual_seed(settings["seed"])
    order = torch.randperm(len(parts.pool), generator=by_seed)[: settings["train_images"]]
    mine = torch.tensor(parts.pool)[order]
    model = pretrained(Path(settings["model"]))
    starting = time.perf_counter()
    torch.manual_seed(settings["seed"])  # PEFT draws its factors from the global generator
    row = named(settings["method"])
    rank = settings["rank"]
    attach_denoiser(model, row, rank=rank, alpha=rank, targets=list(TARGETS))
    init_seconds = time.perf_counter() - starting
    probe = MagnitudeProbe(model, "default", weights=False)
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = lora_plus(model, row, lr=settings["lr"])
    if optimizer is None:
        optimizer = torch.optim.AdamW(trained, lr=settings["lr"], weight_decay=0.0)
    judge, device = Judge(images), next(model.parameters()).device
    make, losses, curve, seconds = noising(), list[float](), list[Judged](), 0.0
    common: dict[str, Any] = {
        "key": key,
        "model": "dit",
        "task": "style",
        "method": settings["method"],
        "rank": rank,
        "lr": settings["lr"],
        "seed": settings["seed"],
        "metric": "loss",
        "better": "low",
        "settings": settings,
        "versions": versions,
    }
    save_shown(model, parts.test, out, 0)
    for step in range(settings["steps"]):
        start = time.perf_counter()
        of_step = torch.Generator().manual_seed(settings["seed"] * 1_000_003 + step)
        batch = mine[torch.randint(len(mine), (settings["batch_size"],), generator=of_step)]
        value = loss(model, make, images[batch].to(device), batch.to(device), of_step)
        losses.append(value.item())
        if not math.isfinite(losses[-1]):
            return Record(**common, status="diverged", wall_seconds=time.perf_counter() - began)
        value.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds += time.perf_counter() - start
        if (step + 1) % settings["judge_every"] == 0 or step + 1 == settings["steps"]:
            curve.append(Judged(step + 1, seconds, judge(model, parts.validation)))
            save_shown(model, parts.test, out, step + 1)
    updates = [each.update for each in probe.read().values()]
    return Record(
        **common,
        status="done",
        validation=curve[-1].metrics,
        test=judge(model, parts.test),
        curve=tuple(curve),
        losses=tuple(losses),
        update=statistics.geometric_mean(updates) if all(updates) else 0.0,
        init_seconds=init_seconds,
        train_seconds=seconds,
        wall_seconds=time.perf_counter() - began,
        trainable=sum(each.numel() for each in trained),
    )


class Judge:
    """Feature and kernel distance of drawn emoji to real ones, and the held-out loss."""

    def __init__(self, images: Tensor) -> None:
        self._images, self._eye = images, Eye()

    def __call__(self, model: Any, labels: list[int]) -> dict[str, float]:
        real = self._images[labels]
        drawn = draw(model, labels, steps=DRAWING_STEPS)
        found = distances(self._eye.see(drawn), self._eye.see(real))
        return {
            "distance": found.feature,
            "kernel": found.kernel,
            "loss": held_out_loss(model, real, labels),
        }


@torch.no_grad()
def held_out_loss(model: Any, images: Tensor, labels: list[int]) -> float:
    """Over times and noise that no step has."""
    device, make = next(model.parameters()).device, noising()
    found = [
        loss(
            model,
            make,
            images.to(device),
            torch.tensor(labels, device=device),
            torch.Generator().manual_seed(10**9 + i),
        ).item()
        for i in range(2)
    ]
    return math.fsum(found) / len(found)


def save_shown(model: Any, labels: list[int], out: Path, step: int) -> None:
    for i, image in enumerate(draw(model, labels[:SHOWN], steps=DRAWING_STEPS)):
        save_image(image, out / f"step-{step:04d}-{i}.png")


def pretrained(folder: Path) -> Any:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Denoiser.from_pretrained(folder).to(device).eval()


def emoji(base: Path, folder: Path) -> tuple[list[str], Tensor]:
    names = json.loads((base / "emoji.json").read_text())
    return names, pixels(folder, names, SIZE)


def floors(options: Any) -> dict[str, dict[str, float]]:
    """Distances of the test emoji without any adaptation; images of some go to OUT."""
    base, out = options.base, options.out
    names, theirs = emoji(base, options.data)
    _, before = emoji(base, options.source)
    parts = split(len(names), validation=options.validation_images, test=options.test_images)
    test = parts.test
    eye, model = Eye(), pretrained(base)
    real, old = eye.see(theirs[test]), eye.see(before[test])
    drawn = eye.see(draw(model, test, steps=DRAWING_STEPS))
    for name, images in (("new", theirs), ("old", before)):
        for i, label in enumerate(test[:SHOWN]):
            save_image(images[label], out / f"{name}-{i}.png")
    found = {
        "another emoji of the new vendor": distances(real.roll(1, 0), real),
        "the old vendor's own emoji": distances(old, real),
        "the pretrained model": distances(drawn, real),
        "the pretrained model, to the old vendor's": distances(drawn, old),
    }
    rows = {name: {"distance": each.feature, "kernel": each.kernel} for name, each in found.items()}
    rows["the pretrained model"]["loss"] = held_out_loss(model, theirs[test], test)
    return rows
