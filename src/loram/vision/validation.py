"""Images drawn while a run trains, and the grid of them over its steps."""

from pathlib import Path
from typing import Any

import torch

from loram.vision.families import Family
from loram.vision.images import draw_grid
from loram.vision.settings import DreamBoothSettings

__all__ = ["Validation"]


class Validation:
    """Draws the validation prompt from the same noise at every step it is asked to.

    Args:
        pipeline: with the model that is trained.
        family: its row.
        settings: of the run; without a validation prompt nothing is ever drawn.
        out: the run's folder; images go to `images/`.
    """

    def __init__(
        self, pipeline: Any, family: Family, settings: DreamBoothSettings, out: Path
    ) -> None:
        self._pipeline, self._family, self._settings = pipeline, family, settings
        self._folder, self._out = out / "images", out

    @torch.no_grad()
    def draw(self, step: int) -> None:
        """Draw this step's images. Neither the model's mode nor a random state is changed."""
        settings = self._settings
        if settings.validation_prompt is None:
            return
        self._folder.mkdir(exist_ok=True)
        model = getattr(self._pipeline, self._family.part)
        before = model.training
        model.eval()
        more = {"max_sequence_length": settings.text_length} if self._family.loss == "flow" else {}
        # Samplers keep their place in a schedule; the next one begins again.
        for i in range(settings.validation_images):
            noise = torch.Generator().manual_seed(settings.seed + i)
            image = self._pipeline(
                settings.validation_prompt,
                height=settings.size,
                width=settings.size,
                num_inference_steps=settings.validation_steps,
                generator=noise,
                **more,
            ).images[0]
            image.save(self._file(step, i))
        model.train(before)

    def grid(self) -> Path | None:
        """`grid.png`: a row a step. None if nothing was drawn."""
        files = sorted(self._folder.glob("step-*-0.png")) if self._folder.is_dir() else []
        steps = [int(file.stem.split("-")[1]) for file in files]
        if not steps:
            return None
        columns = range(self._settings.validation_images)
        rows = [(str(step), [self._file(step, i) for i in columns]) for step in steps]
        draw_grid(rows, self._out / "grid.png")
        return self._out / "grid.png"

    def _file(self, step: int, i: int) -> Path:
        return self._folder / f"step-{step:06d}-{i}.png"
