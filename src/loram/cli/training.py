"""Verbs of one run: train, the tables of methods and tasks, init, export."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from loram.cli.terminal import console, given, listing, quiet, resumable, with_options
from loram.methods import METHODS
from loram.progress import Bars
from loram.tasks.table import TASKS
from loram.train.model import load_pretrained, pick_dtype, resolve
from loram.train.recipes import recipe as settings_of
from loram.train.run import run
from loram.train.settings import TrainSettings

__all__ = ["export", "init", "methods", "tasks", "train"]


@with_options(TrainSettings)
def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder of the run; a killed run goes on from there.")],
    baseline: Annotated[
        Path | None,
        typer.Option(help="A finished run on the same model and data, to take 'before' from."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Named settings as a start, for the task's kind: paper.")
    ] = None,
    **options: Any,
) -> None:
    """Fine-tune a model on a task by any method of the table, and judge it.

    The task's metrics on held-out examples, magnitudes of every layer and step. The adapter is in
    `OUT/adapter`, a fully fine-tuned model in `OUT/model`.

    Examples: `loram train --method loram --lr 2e-4 --steps 40 --out runs/first`,
    `loram train --task glue/mrpc --model minilm --data glue --max-length 128 --out runs/second`,
    on four GPUs `accelerate launch --multi_gpu --num_processes 4 -m loram train …`
    """
    start = {} if recipe is None else settings_of(recipe, options["task"])
    settings = TrainSettings(**{**start, **given(context, options)})
    quiet()
    with resumable(), Bars(console) as bars:
        results = run(settings, out, baseline=baseline, stage=bars)
    if not results:  # another process of the launcher writes, and tells
        return
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
    listing(headings, rows, markdown)


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
    listing(headings, rows, markdown)


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
    quiet()
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
        quiet()
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
