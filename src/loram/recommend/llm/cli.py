"""The verbs of language models as recommenders, which `loram recommend` takes in.

loram recommend train tallrec-small --out runs/tallrec
loram recommend reevaluate runs/tallrec
loram recommend score runs/tallrec rows.jsonl --out scored.jsonl
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loram.figures import FigureError
from loram.progress import Bars

__all__ = ["add_to"]

console = Console()
Run = Annotated[Path, typer.Argument(help="Folder of a finished run.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands on the sub-app."""
    for command in (train, reevaluate, score):
        app.command()(command)


def train(
    config: Annotated[str, typer.Argument(help="YAML file, or one of the package by name.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; a killed run goes on from there.")],
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting, as in data.shots=64 or adapter.method=lora."),
    ] = None,
) -> None:
    """Train a language model as a recommender, and judge it beside the untrained floors.

    Packaged: tallrec, collm-mf, collm-sasrec, llara, ilora with the published settings, and each
    with `-small`, sized for SmolLM2 on two cores; macdae-small is this project's own.

    Example: `loram recommend train tallrec-small --set data.shots=256 --out runs/tallrec`
    """
    from loram.recommend.llm.pictures import draw
    from loram.recommend.llm.run import run
    from loram.recommend.llm.settings import read_yaml

    settings = read_yaml(config, change)
    _quiet()
    with Bars(console) as bars:
        results = run(settings, out, bars=bars)
    _show(results)
    try:
        for picture in draw(out):
            console.print(str(picture), highlight=False, soft_wrap=True)
    except FigureError as error:
        console.print(f"no pictures: {error}", highlight=False, markup=False, soft_wrap=True)


def reevaluate(run: Run) -> None:
    """Judge a finished run again from its saved parts, with the controls.

    Example: `loram recommend reevaluate runs/tallrec`
    """
    from loram.recommend.llm.asking import evaluate
    from loram.recommend.llm.folder import read_json

    results = read_json(run / "results.json")
    _quiet()
    with Bars(console) as bars:
        results = {**results, "metrics": evaluate(run, bars=bars)}
    _show(results)


def score(
    run: Run,
    rows: Annotated[Path, typer.Argument(help="JSONL: user, history, and item or candidates.")],
    out: Annotated[Path | None, typer.Option(help="JSONL to write; by default the screen.")] = None,
) -> None:
    """Score rows of a file: the probability of a like, or the likelihood of each candidate.

    A row is `{"user": "7", "history": ["50", "181"], "liked": [true, false], "item": "172"}`; ids
    that the run does not know are a cold start, and `titles` may name them.

    Example: `loram recommend score runs/tallrec rows.jsonl`
    """
    from loram.files import write_text
    from loram.recommend.llm.asking import score as score_rows

    _quiet()
    with Bars(Console(stderr=True)) as bars:
        found = score_rows(run, rows, bars=bars)
    text = "".join(json.dumps(row) + "\n" for row in found)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        console.print(f"{len(found)} rows in {out}", highlight=False, soft_wrap=True)


def _show(results: dict[str, Any]) -> None:
    from loram.recommend.llm.summary import table_of

    headings, rows = table_of(results)
    table = Table(*headings, box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    console.print(table, highlight=False)
    sizes = results["examples"]
    console.print(
        f"{sizes['train']} training, {sizes['valid']} validation, {sizes['test']} test samples; "
        "intervals of 95 % by bootstrap over users; rates are over all test samples",
        highlight=False,
    )


def _quiet() -> None:
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
