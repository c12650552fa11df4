"""Everything that is wrong with any run of a study, said once and at once."""

from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from itertools import product
from pathlib import Path
from statistics import median_low
from typing import Any, NamedTuple

from pydantic import ValidationError

from loram.checkpoints import CheckpointError, entries, weight_files
from loram.checkpoints import Entry as Tensor
from loram.methods import Method
from loram.study.errors import StudyError
from loram.study.key import local
from loram.study.launched import problem, processes
from loram.study.settings import AXES, fields
from loram.study.spec import Entry, MethodEntry, Spec, TaskEntry
from loram.tasks.errors import DataError
from loram.tasks.table import TASKS
from loram.tasks.task import Request
from loram.train.answering import request_of
from loram.train.model import EMBEDDED, resolve
from loram.train.settings import TrainSettings

__all__ = ["check_folder", "problems"]


class _Problem(NamedTuple):
    """What is wrong with a setting, wherever it was said."""

    name: str
    message: str


def problems(spec: Spec) -> list[str]:
    """One line for each problem, naming the runs that have it; empty if the study can be run."""
    lines = list(_misplaced(spec))
    launcher = None if spec.launch is None else problem(spec.launch)
    if launcher is not None:
        lines.append(f"launch: {launcher}")
    having: dict[_Problem, set[tuple[str, str]]] = {}
    for task in spec.tasks:
        for method in spec.methods:
            for found in _of(spec, task, method):
                having.setdefault(found, set()).add((task.label, method.label))
    for found, pairs in having.items():
        lines.append(f"{_where(spec, pairs)}{found.name}: {found.message}")
    return lines


def check_folder(spec: Spec, out: Path) -> None:
    """Results among a study's data would be part of it, and so of every run's key.

    Raises:
        StudyError: `out` lies in a folder that runs read.
    """
    for task, method in product(spec.tasks, spec.methods):
        for name, path in local(fields(spec, task, method)).items():
            if out.resolve().is_relative_to(Path(path).resolve()):
                raise StudyError(
                    f"expected a folder for results apart from what runs read, got {out} in "
                    f"`{name}: {path}` of the study"
                )


def _misplaced(spec: Spec) -> Iterator[str]:
    """Axes of the study that are given as settings."""
    parts: list[tuple[str, dict[str, Any]]] = [
        ("base", spec.base),
        *((f"task {each.label}", each.settings) for each in spec.tasks),
        *((f"method {each.label}", each.settings) for each in spec.methods),
    ]
    for where, settings in parts:
        for name in sorted(AXES.keys() & settings.keys()):
            yield f"{where}, {name}: the study sets it: give it in {AXES[name]}"


def _of(spec: Spec, task: TaskEntry, method: MethodEntry) -> Iterator[_Problem]:
    given = fields(spec, task, method)
    try:
        settings = TrainSettings.model_validate(given)
    except ValidationError as error:
        for each in error.errors():
            yield _problem(each, task, method)
        settings = None
    for name in ("data", "model"):
        value = given.get(name)
        if isinstance(value, str) and _is_path(value) and not Path(value).exists():
            yield _Problem(name, f"there is no {value}")
    if settings is not None and spec.lrs is not None and settings.validation_size == 0:
        yield _Problem(
            "validation_size",
            "expected at least 1: a learning rate is tuned on validation examples",
        )
    if settings is not None:
        yield from _of_model(settings, spec.ranks)
        yield from _of_data(settings)
        count = None if spec.launch is None else processes(spec.launch)
        if count and settings.batch_size % count:
            yield _Problem(
                "batch_size",
                f"expected a multiple of the {count} processes of `launch`, got "
                f"{settings.batch_size}",
            )


def _of_data(settings: TrainSettings) -> Iterator[_Problem]:
    """What is wrong with data that is on this machine: read as a run would."""
    task = TASKS[settings.task]
    here = settings.data is not None and Path(settings.data).exists()
    if here or (settings.data is None and task.source is None):
        message = _read(settings.task, request_of(settings))
        if message is not None:
            yield _Problem("data", message)


@cache
def _read(task: str, request: Request) -> str | None:
    try:
        TASKS[task].load(request)
    except DataError as error:
        return str(error)
    return None


def _of_model(settings: TrainSettings, ranks: tuple[int, ...]) -> Iterator[_Problem]:
    """What can be told of a model that is on this machine without loading it."""
    name = settings.model
    missing = EMBEDDED[name].available() if name in EMBEDDED else None
    if missing is not None:
        yield _Problem("model", missing)
    elif settings.target_modules != "all-linear" and (name in EMBEDDED or Path(name).is_dir()):
        try:
            layers = _layers(resolve(name))
        except CheckpointError as error:
            yield _Problem("model", str(error))
            return
        targets = [each.strip() for each in settings.target_modules.split(",")]
        for target in targets:
            if not any(_is(layer, target) for layer in layers):
                last = sorted({layer.rsplit(".", 1)[-1] for layer in layers})
                near = get_close_matches(target, last, n=3, cutoff=0.3) or last
                yield _Problem(
                    "target_modules",
                    f"no layer of {name} is called {target!r}: there are {', '.join(near)}",
                )
        if not _bounded(settings.row):
            return
        for target in targets:
            sides = [min(shape) for layer, shape in layers.items() if shape and _is(layer, target)]
            # Most layers of a name are adapted, a head or another tower that has it may not be.
            if sides and max(ranks) > (side := median_low(sides)):
                yield _Problem(
                    "ranks",
                    f"expected at most {side}, the smaller side of {target}, got {max(ranks)}",
                )


def _is(layer: str, target: str) -> bool:
    return f".{layer}".endswith(f".{target}")


def _bounded(method: Method) -> bool:
    """Whether a rank above a weight's smaller side is refused, or quietly made that side.

    Plain LoRA takes any rank; what starts from the weights, or a basis, has no more to give.
    """
    return method.by == "loram" or method.base == "rewritten"


@cache
def _layers(folder: str) -> dict[str, tuple[int, ...]]:
    """Modules of a checkpoint that have a weight, and its shape if it is a matrix as it stands."""
    found = (entry for file in weight_files(Path(folder)) for entry in entries(file))
    return {
        entry.name.removesuffix(".weight"): entry.shape if _is_matrix(entry) else ()
        for entry in found
        if entry.name.endswith(".weight")
    }


def _is_matrix(entry: Tensor) -> bool:
    """Quantised ones are packed: their shape says nothing."""
    return entry.is_float and len(entry.shape) == 2


def _problem(error: Any, task: Entry, method: Entry) -> _Problem:
    name = ".".join(map(str, error["loc"])) or "settings"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        near = get_close_matches(name, TrainSettings.model_fields, n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        return _Problem(name, f"there is no such setting{hint}")
    # The name of a task or a method stands in its message already.
    shown = "" if error["input"] in (task.name, method.name) else f", got {error['input']!r:.80}"
    return _Problem(name, f"{message}{shown}")


def _where(spec: Spec, pairs: set[tuple[str, str]]) -> str:
    """The shortest name for a set of (task, method)."""
    tasks = sorted({task for task, _ in pairs})
    methods = sorted({method for _, method in pairs})
    if len(pairs) < len(tasks) * len(methods):
        each = [f"task {task} with method {method}" for task, method in sorted(pairs)]
        return f"{'; '.join(each)}, "
    said: list[str] = []
    if len(tasks) < len(spec.tasks):
        said.append(f"task {', '.join(tasks)}")
    if len(methods) < len(spec.methods):
        said.append(f"method {', '.join(methods)}")
    return f"{', '.join(said)}, " if said else ""


def _is_path(value: str) -> bool:
    """Whether a name can only be a file's or a folder's, not a hub id's, which is `NAME/NAME`."""
    starts, ends = ("/", "./", "../", "~"), (".jsonl", ".json", ".csv", ".parquet", ".zip")
    return value.startswith(starts) or value.endswith(ends) or value.count("/") > 1
