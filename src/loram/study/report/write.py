"""Report a study: read it, analyse it, write everything into a folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from loram.files import write_text
from loram.study.report.errors import ReportError

if TYPE_CHECKING:
    from loram.study.report.read import Found

__all__ = ["Reported", "parse_targets", "report", "write_report"]

_NEEDED = ("scipy", "polars", "matplotlib", "jinja2")


@dataclass(frozen=True, slots=True)
class Reported:
    """What `report` did.

    Attributes:
        files: report.md, report.html, runs.csv and runs.parquet.
        said: what can be said, headed lists of sentences.
    """

    files: tuple[Path, ...]
    said: tuple[tuple[str, tuple[str, ...]], ...]


def report(
    folder: Path,
    out: Path | None = None,
    *,
    reference: str | None = None,
    targets: Mapping[str | None, float] | None = None,
) -> Reported:
    """Write a study's report, finished or not.

    Args:
        folder: of the study.
        out: folder of the report; `report` in the study's by default.
        reference: label of the method that others are compared with; by default `lora`, or the
            study's first method if it has no such.
        targets: values of the validation metric to time, by task; under None, for all others.

    Raises:
        ReportError: no study there, an unknown reference or task, a missing package, or a folder
            that can't be written.
    """
    _check_packages()
    from loram.study.report.read import read_study

    place = folder / "report" if out is None else out
    return write_report(read_study(folder), place, reference=reference, targets=targets)


def write_report(
    found: "Found",
    out: Path,
    *,
    reference: str | None = None,
    targets: Mapping[str | None, float] | None = None,
) -> Reported:
    """Write the report of runs, wherever they came from; as `report`, whose arguments these are.

    Args:
        found: a study's runs.
        out: folder of the report.
        reference: as in `report`.
        targets: likewise.
    """
    _check_packages()
    from loram.study.findings import find
    from loram.study.report.contents import contents
    from loram.study.report.flat import write_runs
    from loram.study.report.html import html
    from loram.study.report.markdown import markdown
    from loram.study.report.words import conclusions

    design = found.results.design
    if reference is None:
        reference = next((x for x in design.labels if x.lower() == "lora"), design.labels[0])
    _known("reference", [reference], design.labels)
    _known("task of --target", [task for task in targets or {} if task is not None], design.tasks)
    findings = find(found.results, reference, targets)
    try:
        out.mkdir(parents=True, exist_ok=True)
        document = contents(found, findings, out)
        write_text(out / "report.md", markdown(document, out))
        write_text(out / "report.html", html(document))
        runs = write_runs(found.results.runs, out)
    except OSError as error:
        raise ReportError(f"can't write into {out} ({error}): name another folder") from error
    files = (out / "report.md", out / "report.html", *runs)
    return Reported(files, tuple(conclusions(findings)))


def _check_packages() -> None:
    absent = [name for name in _NEEDED if find_spec(name) is None]
    if absent:
        raise ReportError(f"a report needs {', '.join(absent)}: pip install 'loram[study]'")


def parse_targets(given: Sequence[str]) -> dict[str | None, float]:
    """`0.8` for all tasks, `glue/mrpc=0.8` for one.

    Raises:
        ReportError: something else.
    """
    found: dict[str | None, float] = {}
    for text in given:
        task, _, value = text.rpartition("=")
        try:
            found[task or None] = float(value)
        except ValueError as error:
            raise ReportError(
                f"--target: expected a number or TASK=NUMBER, got {text!r}"
            ) from error
    return found


def _known(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ReportError(
                f"{what} {name!r} is not in the study: expected one of {', '.join(known)}"
            )
