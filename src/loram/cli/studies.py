"""Verbs of many runs: compare, report."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from loram.cli.terminal import console, resumable
from loram.study.engine import EngineName

__all__ = ["compare", "report"]


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
    reuse: Annotated[
        list[Path] | None,
        typer.Option(
            help="Take over runs from another study's folder, or from the runs.parquet of a report."
        ),
    ] = None,
) -> None:
    """Compare methods, each at its own best learning rate, over tasks, ranks and seeds.

    Runs that are done are skipped, runs that were killed go on, also those of other studies in the
    same folder.

    Example: `loram compare examples/study.yaml --out runs/study --dry-run`
    """
    from loram.study.compare import compare as comparison

    with resumable():
        comparison(
            study,
            out,
            console=console,
            dry_run=dry_run,
            workers=workers,
            engine=engine,
            limit_hours=limit_hours,
            reused=reuse or (),
        )


def report(
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
            help="Validation metric to time, as 0.8 or TASK=0.8 (the loss, where that is all its "
            "curves have); by default the reference's best."
        ),
    ] = None,
) -> None:
    """Say what a study's runs say: tests, intervals, sensitivity, cost, pictures.

    Writes report.md, report.html (one page, pictures inside), runs.csv and runs.parquet. A study
    that is not finished is reported as far as it is.

    Example: `loram report studies/glue --target glue/mrpc=0.8`
    """
    from loram.study.report.write import parse_targets
    from loram.study.report.write import report as write_report

    done = write_report(study, out, reference=reference, targets=parse_targets(target or []))
    for title, sentences in done.said:
        console.print(f"[bold]{escape(title)}[/bold]", highlight=False, soft_wrap=True)
        for sentence in sentences:
            console.print(f"- {sentence}", highlight=False, markup=False, soft_wrap=True)
    for file in done.files:
        console.print(str(file), highlight=False, soft_wrap=True)
