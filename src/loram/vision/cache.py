"""Latents and texts of a run, encoded once: VAE and text encoders are then idle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from loram.files import staged_file
from loram.vision.families import Family
from loram.vision.images import read_images
from loram.vision.settings import DreamBoothSettings

__all__ = ["Encoded", "encoded"]

Encoded = dict[str, Tensor]
"""`subject.mean`, `subject.std` (images, c, h, w), `subject.text.*` (1, …); `class.*` likewise."""


@torch.no_grad()
def encoded(
    pipeline: Any,
    family: Family,
    settings: DreamBoothSettings,
    file: Path,
    tick: Callable[[int], None],
) -> Encoded:
    """What the file holds, or what is encoded and put there.

    Raises:
        VisionError: images that can't be read.
    """
    if file.exists():
        return load_file(file)
    found: Encoded = {}
    sets = [("subject", settings.images, settings.prompt)]
    if settings.class_images is not None and settings.class_prompt is not None:
        sets.append(("class", settings.class_images, settings.class_prompt))
    for name, folder, prompt in sets:
        images = read_images(Path(folder), settings.size, skip_bad=settings.skip_bad_images)
        means: list[Tensor] = []
        stds: list[Tensor] = []
        for image in images.split(1):
            drawn = pipeline.vae.encode(image.to(pipeline.vae.device, pipeline.vae.dtype))
            means.append(drawn.latent_dist.mean.float().cpu())
            stds.append(drawn.latent_dist.std.float().cpu())
            tick(1)
        shift = getattr(pipeline.vae.config, "shift_factor", None) or 0.0
        scale = pipeline.vae.config.scaling_factor
        found[f"{name}.mean"] = (torch.cat(means) - shift) * scale
        found[f"{name}.std"] = torch.cat(stds) * scale
        texts = family.encode(pipeline, [prompt], settings.text_length)
        found |= {f"{name}.text.{key}": each.cpu().contiguous() for key, each in texts.items()}
    with staged_file(file) as staging:
        save_file(found, staging)
    return found
