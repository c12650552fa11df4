"""Verbs of the magnitude principle: diagnose, equivalents, figures."""

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from loram.cli.terminal import console, grid, quiet
from loram.diagnose import Report, Spectrum
from loram.dynamics.equivalence import Optimizer
from loram.dynamics.matching import Rule
from loram.figures import Which
from loram.progress import Bars
from loram.train.settings import TrainSettings

__all__ = ["diagnose", "equivalents", "figures"]


def diagnose(
    target: Annotated[
        str,
        typer.Argument(
            help="A checkpoint (folder, .safetensors file, smollm2, hub id), a LoRA adapter, or "
            "the folder of a training run."
        ),
    ],
    rank: Annotated[int, typer.Option(min=1, help="r of gains and β.")] = 16,
    spectrum: Annotated[
        Spectrum, typer.Option(help="Measure Q[r] of each layer, by which SVD.")
    ] = "none",
    everything: Annotated[
        bool, typer.Option("--everything", help="Embeddings and heads too.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for CSV, PNG and SVG.")] = None,
) -> None:
    """Magnitudes, gains and warnings of a checkpoint, an adapter or a training run.

    A checkpoint is streamed, without building the model: ν[W], log gain, LoRAM's β; with
    `--spectrum`, the spectral gain. An adapter is read without its base.

    Example: `loram diagnose smollm2 --spectrum randomised --out diagnosis`
    """
    from loram.diagnose import diagnose, write

    with Bars(console) as bars:
        report = diagnose(
            target,
            rank=rank,
            spectrum=spectrum,
            everything=everything,
            begin=lambda total: bars("layers", total),
        )
    _show(report)
    for file in [] if out is None else write(report, out):
        console.print(str(file), highlight=False, soft_wrap=True)


def _show(report: Report) -> None:
    console.print(report.title, highlight=False, markup=False, soft_wrap=True)
    grid(report.summary.headings, report.summary.rows)
    for line in report.advice:
        console.print(f"[yellow]![/yellow] {escape(line)}", highlight=False, soft_wrap=True)


def equivalents(
    rank: Annotated[int, typer.Option(min=1, help="r")] = 16,
    alpha: Annotated[float | None, typer.Option(help="lora_alpha; by default r.")] = None,
    rslora: Annotated[bool, typer.Option("--rslora", help="s = alpha / sqrt(r).")] = False,
    lr: Annotated[float, typer.Option(help="Learning rate of A.")] = 2e-4,
    lr_ratio: Annotated[
        float | None,
        typer.Option(help="That of B over that of A; by default 1, or the method's with --match."),
    ] = None,
    optimizer: Annotated[Optimizer, typer.Option(help="Of both factors.")] = "adamw",
    eps: Annotated[float, typer.Option(help="Adam's.")] = 1e-8,
    weight_decay: Annotated[float, typer.Option(min=0, help="Of both factors.")] = 0.0,
    zero_b: Annotated[bool, typer.Option(help="B starts at zero, as LoRA's does.")] = True,
    match: Annotated[
        str | None, typer.Option(help="A method that --lr works for; `full` is one too.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="Methods to take that rate to, joined by commas.")
    ] = None,
    model: Annotated[str, typer.Option(help="Where --match reads how methods start.")] = "smollm2",
    task: Annotated[
        str, typer.Option(help="What the model is for: a row of `loram tasks`, for --match.")
    ] = "answers",
    steps: Annotated[int, typer.Option(min=1, help="Length of the run, for --match.")] = 500,
    persistence: Annotated[
        float, typer.Option(min=0, max=1, help="How far gradients keep their sign, for --match.")
    ] = 1.0,
) -> None:
    """Other ways to write your LoRA run; or its learning rate, taken to another method.

    Scaling, the size of the starting factors and the learning rates act through their products
    only: every row of the table is the same run. With `--match`, the rates at which other methods
    move the weights equally far, as predicted from how each starts on the model.

    Examples: `loram equivalents --alpha 32 --lr 1e-4`,
    `loram equivalents --match lora --lr 2e-4 --to pissa,loram`
    """
    from loram.dynamics import Settings
    from loram.dynamics import table as tables

    if (match is None) != (to is None):
        raise typer.BadParameter("--match and --to go together: a method, and those to compare")
    if match is not None and to is not None:
        asked = {"task": task, "model": model, "method": match, "rank": rank}
        asked |= {"alpha": alpha, "rslora": rslora}
        reference = TrainSettings.model_validate({**asked, "lr": lr, "lr_ratio": lr_ratio})
        rule = "adam" if optimizer in ("adam", "adamw") else "sgd"
        _match(reference, to, rule, steps, persistence)
        return
    scaling = (rank if alpha is None else alpha) / (rank**0.5 if rslora else rank)
    try:
        run_of = Settings(
            scaling=scaling,
            size_B=0.0 if zero_b else 1.0,
            lr_A=lr,
            lr_B=lr * (1.0 if lr_ratio is None else lr_ratio),
            optimizer=optimizer,
            eps_A=eps,
            eps_B=eps,
            decay_A=weight_decay,
            decay_B=weight_decay,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    rows = tables.equivalents(run_of, rank)
    headings, cells = tables.as_table(rows)
    grid(headings, cells, wrap=True)
    for note in tables.notes(rows):
        console.print(note, highlight=False, markup=False, soft_wrap=True)


def _match(reference: TrainSettings, to: str, rule: Rule, steps: int, persistence: float) -> None:
    from loram.train.matching import Matched, matched_rates

    names = [name.strip() for name in re.split(r",(?![^(]*\))", to)]
    if not all(names):
        raise typer.BadParameter(f"--to: expected methods, got nothing between two commas in {to}")
    quiet()
    with Bars(console) as bars:
        found = matched_rates(
            reference, names, rule=rule, steps=steps, persistence=persistence, stage=bars
        )
    grid(Matched._fields, found)
    console.print(
        f"Equal predicted ν[W_LoRA] after {steps} steps, in the geometric mean over layers.",
        highlight=False,
        soft_wrap=True,
    )


def figures(
    which: Annotated[Which, typer.Argument(help="Of the paper, or growth: of your own runs.")],
    runs: Annotated[
        list[Path] | None, typer.Argument(help="For growth: folders of runs by `loram train`.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for PNG, SVG and CSV.")] = Path("figures"),
    steps: Annotated[int, typer.Option(min=2, help="Of each run of 2a and 2b.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of 2a and 2b.")] = 0,
) -> None:
    """Draw the paper's figures 2a, 2b and 3 anew, or what your runs moved beside the prediction.

    2a: settings that are one run (Proposition 1). 2b: growth from several starts (Proposition 2).
    3: spectral gains of SmolLM2 and MiniLM beside LoRAM's logarithm. growth: ν[W_LoRA] of runs.

    Example: `loram figures growth runs/lora runs/loram`
    """
    from loram.figures import draw

    quiet()
    with Bars(console) as bars:
        files, found = draw(
            which,
            out,
            runs=runs or (),
            steps=steps,
            seed=seed,
            begin=lambda total: bars("drawing", total),
        )
    grid(found[0]._fields, found)
    for file in files:
        console.print(str(file), highlight=False, soft_wrap=True)
