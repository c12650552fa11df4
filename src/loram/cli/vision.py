"""Verbs of diffusion models: dreambooth."""

from pathlib import Path
from typing import Annotated, Any

import typer

from loram.cli.terminal import console, given, quiet, resumable, with_options
from loram.progress import Bars
from loram.vision.settings import DreamBoothSettings

__all__ = ["dreambooth"]


@with_options(DreamBoothSettings)
def dreambooth(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    **options: Any,
) -> None:
    """Teach a diffusion model a subject from a few images, with LoRA of any method.

    Writes a file that `pipeline.load_lora_weights` reads, also without loram. A run that was killed
    goes on from its last checkpoint.

    Example: `loram dreambooth --recipe paper --images dog --prompt "a sks dog" --out runs/dog`
    """
    from loram.vision.dreambooth import dreambooth as run

    settings = DreamBoothSettings(**given(context, options))
    quiet()
    with resumable(), Bars(console) as bars:
        results = run(settings, out, stage=bars)
    loss = results["loss"]
    console.print(f"loss {loss['before']:.4f} → {loss['after']:.4f}", highlight=False)
    for name in ("saved", "grid"):
        if results[name] is not None:
            console.print(f"{name}: {out / results[name]}", highlight=False, soft_wrap=True)
