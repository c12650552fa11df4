"""A study's folder, read back: its settings, and those of the records that are its own."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from loram.files import read_object
from loram.study.key import NOT_HASHED
from loram.study.record import Record
from loram.study.report.errors import ReportError
from loram.study.results import Design, Results, Run, same_rate

__all__ = ["Found", "read_study"]

SPEC = "study.yaml"
PLAN = "plan.json"
# What a run is told apart by without its settings; paths, which may have moved; and what says
# nothing of its result.
_ASIDE = frozenset({"task", "method", "rank", "lr", "seed", "data", *NOT_HASHED})
_AUTO = "auto"  # a record has what it became


@dataclass(frozen=True, slots=True)
class Found:
    """A study and what of its folder is not in it.

    Attributes:
        results: the study's runs.
        foreign: records of other studies.
        unreadable: record files that are no records.
        repeated: records of runs that another, newer one was taken of.
    """

    results: Results
    foreign: int = 0
    unreadable: tuple[Path, ...] = ()
    repeated: int = 0


def read_study(folder: Path) -> Found:
    """Read `study.yaml`, `plan.json` and the records in `runs/*/record.json`.

    The plan says which records are the study's, under which names, and what for: a folder may hold
    other studies' as well. Without a plan a record belongs to the study if its task, rank, seed and
    every setting are what the study says, or the default; its method is the one whose settings it
    has; paths of data are not compared.

    Raises:
        ReportError: no study there, one that can't be read, or records of which none is its own.
    """
    spec = _spec(folder / SPEC)
    study = _study(spec, folder / SPEC)
    planned = _planned(folder / PLAN)
    taken: dict[tuple[object, ...], tuple[tuple[bool, int], Run]] = {}
    unreadable: list[Path] = []
    foreign, repeated, reason = 0, 0, ""
    for file in sorted(folder.glob("runs/*/record.json")):
        try:
            record = Record.model_validate_json(file.read_text(encoding="utf-8"))
        except (ValidationError, ValueError, OSError):
            unreadable.append(file)
            continue
        run = _owned(record, study) if planned is None else _as_planned(record, planned)
        if isinstance(run, str):
            foreign, reason = foreign + 1, run
            continue
        key = (run.label, run.task, record.rank, f"{record.lr:.6e}", record.seed)
        # A result before an error, a newer one before an older.
        worth = (record.status != "failed", file.stat().st_mtime_ns)
        repeated += key in taken
        if key not in taken or worth >= taken[key][0]:
            taken[key] = (worth, run)
    if foreign and not taken:
        raise ReportError(
            f"{folder}: none of {foreign} records belongs to the study {study.design.name!r}; the "
            f"last one has {reason}. Check {SPEC}, or run `loram compare` on it"
        )
    runs = tuple(run for _, run in taken.values())
    return Found(Results(study.design, runs), foreign, tuple(unreadable), repeated)


def _planned(file: Path) -> dict[str, Mapping[str, Any]] | None:
    """Lines of a plan by the run's key; None without a plan."""
    if not file.exists():
        return None
    try:
        lines = read_object(file)["runs"]
        return {line["key"]: line for line in lines}
    except (ValueError, KeyError, TypeError) as error:
        raise ReportError(
            f"{file}: expected the plan that `loram compare` writes ({error}); give its command "
            "again, or remove the file"
        ) from error


def _as_planned(record: Record, planned: Mapping[str, Mapping[str, Any]]) -> Run | str:
    line = planned.get(record.key)
    if line is None:
        return "a key that is not in plan.json"
    return Run(line["method"], line["task"], record, frozenset(line["roles"]))


def _spec(file: Path) -> dict[str, Any]:
    import yaml

    try:
        spec = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ReportError(
            f"{file.parent}: expected the folder of a study by `loram compare`, with {SPEC} in it"
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ReportError(f"{file}: can't be read ({error})") from error
    if not isinstance(spec, dict):
        raise ReportError(f"{file}: expected the settings of a study, got {type(spec).__name__}")
    return spec


@dataclass(frozen=True, slots=True)
class _Entry:
    """A method or a task of the study, and the settings it changes."""

    name: str
    label: str
    changes: Mapping[str, Any]


def _entries(given: Sequence[str | Mapping[str, Any]], kind: str) -> list[_Entry]:
    found: list[_Entry] = []
    for each in given:
        if isinstance(each, str):
            found.append(_Entry(each, each, {}))
            continue
        changes = {k: v for k, v in each.items() if k not in (kind, "label")}
        found.append(_Entry(each[kind], each.get("label", each[kind]), changes))
    return found


@dataclass(frozen=True, slots=True)
class _Study:
    """What records are sorted by."""

    design: Design
    base: Mapping[str, Any]
    tasks: Sequence[_Entry]
    methods: Sequence[_Entry]


def _study(spec: Mapping[str, Any], file: Path) -> _Study:
    try:
        tasks, methods = _entries(spec["tasks"], "task"), _entries(spec["methods"], "method")
        seeds, grid = tuple(spec["seeds"]), spec.get("lrs")
        design = Design(
            name=spec["name"],
            labels=tuple(entry.label for entry in methods),
            tasks=tuple(entry.label for entry in tasks),
            ranks=tuple(spec["ranks"]),
            seeds=seeds,
            tuning_seeds=tuple(spec.get("tuning_seeds") or seeds),
            low=None if grid is None else float(grid["low"]),
            high=None if grid is None else float(grid["high"]),
            per_decade=4 if grid is None else int(grid.get("per_decade", 4)),
            recipe=tuple(float(rate) for rate in (spec.get("recipe") or {}).get("lrs", ())),
            pairs=tuple((str(first), str(second)) for first, second in spec.get("pairs") or ()),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReportError(
            f"{file}: expected a study with name, tasks, methods, ranks, seeds and lrs "
            f"({type(error).__name__}: {error})"
        ) from error
    return _Study(design, spec.get("base") or {}, tasks, methods)


def _owned(record: Record, study: _Study) -> Run | str:
    """The record as the study's, or why it is not."""
    design = study.design
    tasks = [entry for entry in study.tasks if _named(entry.name, record.task)]
    methods = [entry for entry in study.methods if _named(entry.name, record.method)]
    if not tasks or not methods:
        kind, name = ("method", record.method) if tasks else ("task", record.task)
        return f"{kind} {name!r}, which the study has not"
    for kind, value, known in (
        ("rank", record.rank, design.ranks),
        ("seed", record.seed, (*design.seeds, *design.tuning_seeds)),
    ):
        if value not in known:
            return f"{kind} {value}, expected one of {', '.join(map(str, known))}"
    recipe = any(same_rate(record.lr, rate) for rate in design.recipe)
    if not (recipe or design.on_grid(record.lr)):
        return f"lr {record.lr:g}, which is neither on the grid nor a rate of the recipe"
    why = ""
    for task, method in product(tasks, methods):
        expected = {**study.base, **task.changes, **method.changes}
        differing = next(_differing(record.settings, expected), None)
        if differing is None:
            return Run(method.label, task.label, record)
        why = differing
    return why


def _named(name: str, given: str) -> bool:
    return name.strip().lower() == given.strip().lower()


def _differing(settings: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    from loram.train.settings import TrainSettings

    fields = TrainSettings.model_fields
    for name, value in settings.items():
        if name in _ASIDE or (name not in expected and name not in fields):
            continue
        wanted = expected[name] if name in expected else fields[name].default
        if wanted != _AUTO and not _same(value, wanted):
            got, said = json.dumps(value), json.dumps(wanted, default=str)
            yield f"{name} {got} where the study has {said}"


def _same(value: Any, wanted: Any) -> bool:
    if value == wanted:
        return True
    try:  # YAML 1.1 reads 1e-4 as text, which the settings take as the number it is
        return math.isclose(float(value), float(wanted), rel_tol=1e-9)
    except (TypeError, ValueError):
        return False
