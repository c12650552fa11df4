"""The verb of speed: bench."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console

from loram.bench import MEASUREMENTS, BenchSettings, check
from loram.bench import measured as measured_by
from loram.cli.terminal import console, listing, quiet, with_options
from loram.progress import Bars

__all__ = ["bench"]


@with_options(BenchSettings)
def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="Measurements; without one, they are listed.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All measurements.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the tables as one JSON list.")
    ] = False,
    **options: Any,
) -> None:
    """Measure what things cost on this machine, each beside its floor.

    Works take turns in one process; medians of rounds, and the smallest and largest ratio. Each
    table is kept as JSON under --out, with the machine's cores, threads and load.

    Example: `loram bench init --shape 4096x4096 --rank 16 --rounds 5`
    """
    asked = list(MEASUREMENTS) if everything else names or []
    if not asked:
        listing(("measurement", "what it measures"), list(MEASUREMENTS.items()), markdown=False)
        return
    check(asked)
    settings = BenchSettings(**options)
    import warnings

    from loram.bench.table import show

    quiet()
    warnings.simplefilter("ignore")  # PEFT's, of methods that are measured, not used
    kept: list[dict[str, Any]] = []
    with Bars(Console(stderr=True) if as_json else console) as bars:
        for table in measured_by(asked, settings, bars):
            if as_json:
                kept.append({"name": table.name, "title": table.title, "rows": table.rows})
                continue
            show(table, console)
            for file in table.files:
                console.print(str(file), highlight=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps(kept, indent=2, ensure_ascii=False))
