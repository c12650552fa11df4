"""Images as files, and rows of them as one picture."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from loram.vision.images import draw_grid

TIMES = 2  # a screen's pixels to an image's


def save_image(image: Tensor, file: Path) -> None:
    """(3, h, w) in [−1, 1], enlarged."""
    values = ((image + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(values)
    picture.resize((picture.width * TIMES, picture.height * TIMES), Image.Resampling.BICUBIC).save(
        file, format="PNG"
    )


def save_rows(rows: Sequence[tuple[str, Tensor]], file: Path) -> None:
    """A row for each name: (name, (n, 3, h, w))."""
    with tempfile.TemporaryDirectory() as folder:
        found: list[tuple[str, list[Path]]] = []
        for i, (name, images) in enumerate(rows):
            files = [Path(folder) / f"{i}-{j}.png" for j in range(len(images))]
            for image, path in zip(images, files, strict=True):
                save_image(image, path)
            found.append((name, files))
        draw_grid(found, file)
