"""`loram recommend`: look at data, its untrained floors, and classical models beside them.

loram recommend prepare ml-100k
loram recommend floors ml-100k --split tallrec
loram recommend evaluate ml-100k --split tallrec --model sasrec
loram recommend train tallrec-small --out runs/tallrec
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from loram.recommend.errors import RecommendError
from loram.recommend.evaluating import MODELS, Prepared, prepare_data
from loram.recommend.floors import floors as floors_of
from loram.recommend.interactions import Floats
from loram.recommend.intervals import Interval, judge
from loram.recommend.llm.cli import add_to
from loram.recommend.reading import Columns

__all__ = ["app"]

app = typer.Typer(
    name="recommend",
    help="Recommenders: data, untrained floors, classical models, and language models.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
console = Console()

Data = Annotated[
    str, typer.Argument(help="`.inter`, CSV, TSV, Parquet, a folder of `.inter`, or `ml-100k`.")
]
Split = Annotated[str, typer.Option(help="tallrec, temporal, global, leave-one-out or random.")]
Column = Annotated[
    list[str] | None,
    typer.Option(help="Which column is what, as in user=uid; context=hour,city for several."),
]
LikeAbove = Annotated[
    float | None,
    typer.Option(help="Ratings above it are likes; 3 if there is no label."),
]
Negatives = Annotated[int, typer.Option(help="Sampled for each row, if there are no labels.")]
Test = Annotated[Path | None, typer.Option(help="File of the test rows: no split is made.")]
Valid = Annotated[Path | None, typer.Option(help="File of the validation rows, beside --test.")]
Resamples = Annotated[int, typer.Option(min=1, help="Bootstrap draws of users.")]


def _prepared(
    data: str,
    split: str,
    column: list[str] | None,
    like_above: float | None,
    negatives: int,
    valid: Path | None,
    test: Path | None,
) -> Prepared:
    return prepare_data(
        data,
        columns=columns_of(column or []),
        split=split,
        like_above=like_above,
        negatives=negatives,
        valid=valid,
        test=test,
    )


def columns_of(given: list[str]) -> Columns:
    """Columns of `what=name` pairs.

    Raises:
        RecommendError: one is not such a pair, or of no known kind.
    """
    chosen: dict[str, str | tuple[str, ...]] = {}
    for pair in given:
        what, equals, name = pair.partition("=")
        if not equals or what not in Columns.model_fields:
            raise RecommendError(
                f"--column {pair}: expected WHAT=NAME with WHAT of {list(Columns.model_fields)}"
            )
        many = Columns.model_fields[what].default == ()
        chosen[what] = tuple(name.split(",")) if many else name
    return Columns.model_validate(chosen)


@app.command()
def prepare(
    data: Data,
    split: Split = "temporal",
    column: Column = None,
    like_above: LikeAbove = None,
    negatives: Negatives = 2,
    valid: Valid = None,
    test: Test = None,
) -> None:
    """Read, label and split the data, check it for leaks, and say what is in it."""
    made = _prepared(data, split, column, like_above, negatives, valid, test)
    table = Table("part", "rows", "users", "items", "positive", "users in train", box=None)
    known = set(made.train.user.tolist())
    for name, part in (("train", made.train), ("valid", made.valid), ("test", made.test)):
        users = set(part.user.tolist())
        table.add_row(
            *(name, str(len(part)), str(len(users)), str(len(np.unique(part.item)))),
            *(f"{part.label.mean():.1%}" if len(part) else "", str(len(users & known))),
        )
    console.print(table)
    untitled = sum(title is None for title in made.data.titles) or (not made.data.titles)
    console.print(
        f"{len(made.data.users)} users, {len(made.data.items)} items, "
        f"{'no titles' if untitled is True else f'{untitled} items without a title'}; context: "
        f"{', '.join(made.data.context) or 'none'}; no leak found",
        highlight=False,
    )


@app.command()
def floors(
    data: Data,
    split: Split = "temporal",
    column: Column = None,
    like_above: LikeAbove = None,
    negatives: Negatives = 2,
    valid: Valid = None,
    test: Test = None,
    resamples: Resamples = 1000,
) -> None:
    """Print what counting alone reaches, with intervals over users."""
    made = _prepared(data, split, column, like_above, negatives, valid, test)
    console.print(_table(made, {}, resamples))


@app.command()
def evaluate(
    data: Data,
    split: Split = "temporal",
    model: Annotated[
        list[str] | None, typer.Option(help=f"Of {', '.join(MODELS)}; several for several.")
    ] = None,
    column: Column = None,
    like_above: LikeAbove = None,
    negatives: Negatives = 2,
    valid: Valid = None,
    test: Test = None,
    seed: Annotated[int, typer.Option(help="Of the fit.")] = 0,
    resamples: Resamples = 1000,
) -> None:
    """Train classical models and print them below the floors."""
    chosen = model or ["mf"]
    if unknown := sorted(set(chosen) - set(MODELS)):
        raise RecommendError(f"--model {unknown[0]}: expected one of {', '.join(MODELS)}")
    made = _prepared(data, split, column, like_above, negatives, valid, test)
    console.print(_table(made, {name: MODELS[name](made, seed) for name in chosen}, resamples))


add_to(app)


def _table(made: Prepared, trained: dict[str, Floats], resamples: int) -> Table:
    """Floors first, whatever comes after them."""
    table = Table(box=None)
    rows = [(f"floor: {name}", s) for name, s in floors_of(made.train, made.test).items()]
    rows += list(trained.items())
    for number, (name, score) in enumerate(rows):
        found = judge(made.test.label, score, made.test.user, ks=(5, 10), resamples=resamples)
        shown = {k: found.get(k) for k in ("auc", "uauc", "ndcg@5", "ndcg@10")}
        if not number:
            table.add_column(no_wrap=True)  # in 80 columns intervals get a second line, not names
            for heading in shown:
                table.add_column(heading.upper())
        table.add_row(name, *(_shown(interval) for interval in shown.values()))
    return table


def _shown(interval: Interval | None) -> str:
    return "no user has both" if interval is None else str(interval)
