"""What the verbs of `loram` share: the application, the console, tables, options from settings."""

import inspect
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = [
    "app",
    "cell",
    "complain",
    "console",
    "given",
    "grid",
    "listing",
    "quiet",
    "resumable",
    "with_options",
]

app = typer.Typer(
    name="loram",
    help="LoRA that starts at the right magnitude: train, measure, export.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console()
errors = Console(stderr=True)


@contextmanager
def resumable() -> Generator[None]:
    """In the block, Ctrl-C ends the command with a word about going on."""
    try:
        yield
    except KeyboardInterrupt:
        complain("interrupted; the same command goes on from the last checkpoint")
        raise typer.Exit(130) from None


def quiet() -> None:
    """Our bars, not also those of Transformers."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def complain(message: str) -> None:
    """Say what is wrong, on standard error."""
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


def with_options(model: type[BaseModel]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace the `**options` of a command by the fields of a settings model."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        parameters = [*own, *_options(model)]
        command.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore[reportFunctionMemberAccess]
        command.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        return command

    return decorate


def given(context: typer.Context, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that the user gave: what was left at its default is a recipe's to say."""

    def is_given(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is not None and source.name != "DEFAULT"

    return {name: value for name, value in options.items() if is_given(name)}


def listing(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]], markdown: bool) -> None:
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


def grid(
    headings: Sequence[str], rows: Iterable[Sequence[str | float | None]], *, wrap: bool = False
) -> None:
    """Print a table whose cells are never wrapped, unless told so."""
    table = Table(*map(escape, headings), box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in [] if wrap else table.columns:
        column.no_wrap = True
        column.overflow = "ignore"
    for row in rows:
        table.add_row(*(escape(cell(value)) for value in row))
    console.print(table, highlight=False)


def cell(value: str | float | None) -> str:
    """A value as tables show it."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.3g}"
