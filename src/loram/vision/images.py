"""Reading a folder of images, and drawing a grid of them."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError
from torch import Tensor

from loram.vision.errors import VisionError

__all__ = ["draw_grid", "read_image", "read_images"]

logger = logging.getLogger(__name__)

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_MARGIN, _LETTER = 48, 7  # pixels, for the rows' names


def read_images(folder: Path, size: int, *, skip_bad: bool = False) -> Tensor:
    """Images of a folder, cut to a square and scaled.

    Args:
        folder: read in the order of the names; other files are left alone.
        size: side, in pixels.
        skip_bad: leave out, and log, what can't be read.

    Returns:
        (images, 3, size, size) in [−1, 1], float32.

    Raises:
        VisionError: no folder, no image, or some that can't be read; all of them are named.
    """
    if not folder.is_dir():
        raise VisionError(f"no folder {folder}: expected one with images ({', '.join(_ENDINGS)})")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in _ENDINGS)
    read: list[Tensor] = []
    bad: list[str] = []
    for file in files:
        try:
            read.append(read_image(file, size))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            unknown = isinstance(error, UnidentifiedImageError)
            bad.append(f"{file.name}: {'not an image' if unknown else error}")
    if bad and not skip_bad:
        listed = "\n  ".join(bad)
        raise VisionError(
            f"{len(bad)} of {len(files)} images in {folder} can't be read; take them out, or ask "
            f"for skip_bad_images (--skip-bad-images):\n  {listed}"
        )
    for problem in bad:
        logger.warning("left out %s", problem)
    if not read:
        raise VisionError(f"no image to be read in {folder}: expected {', '.join(_ENDINGS)}")
    return torch.stack(read)


def read_image(file: Path, size: int) -> Tensor:
    """One image, (3, size, size), as `read_images` has them.

    Raises:
        OSError, ValueError, SyntaxError: it can't be read, or is empty.
    """
    if file.stat().st_size == 0:
        raise ValueError("empty, 0 bytes")
    with Image.open(file) as opened:
        image: Image.Image = ImageOps.exif_transpose(opened).convert("RGB")
    square = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    values = torch.from_numpy(np.array(square, dtype=np.float32))  # (size, size, 3)
    return values.permute(2, 0, 1) / 127.5 - 1


def draw_grid(rows: Sequence[tuple[str, Sequence[Path]]], file: Path) -> None:
    """One picture of many: a row for each name.

    Args:
        rows: (name, image files), all of one size.
        file: to write, PNG.
    """
    pictures: list[tuple[str, list[Any]]] = [(n, [Image.open(f) for f in fs]) for n, fs in rows]
    width, height = pictures[0][1][0].size
    columns = max(len(images) for _, images in pictures)
    margin = max(_MARGIN, 8 + _LETTER * max(len(name) for name, _ in pictures))
    sheet = Image.new("RGB", (margin + columns * width, len(pictures) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (name, images) in enumerate(pictures):
        pen.text((4, i * height + height // 2 - 6), name, fill="black")
        for j, image in enumerate(images):
            sheet.paste(image, (margin + j * width, i * height))
    staging = file.with_name(f".{file.name}.part")
    sheet.save(staging, format="PNG")
    staging.replace(file)
