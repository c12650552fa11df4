"""Everything that is wrong with any run of a study, said once and at once."""

from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from loram.checkpoints import CheckpointError, entries, weight_files
from loram.study.launched import processes
from loram.study.settings import AXES, fields
from loram.study.spec import Entry, MethodEntry, Spec, TaskEntry
from loram.train.model import EMBEDDED, resolve
from loram.train.settings import TrainSettings

__all__ = ["problems"]


class _Problem(NamedTuple):
    """What is wrong with a setting, wherever it was said."""

    name: str
    message: str


def problems(spec: Spec) -> list[str]:
    """One line for each problem, naming the runs that have it; empty if the study can be run."""
    lines = list(_misplaced(spec))
    having: dict[_Problem, set[tuple[str, str]]] = {}
    for task in spec.tasks:
        for method in spec.methods:
            for problem in _of(spec, task, method):
                having.setdefault(problem, set()).add((task.label, method.label))
    for problem, pairs in having.items():
        lines.append(f"{_where(spec, pairs)}{problem.name}: {problem.message}")
    return lines


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
        yield from _of_model(settings)
        count = None if spec.launch is None else processes(spec.launch)
        if count and settings.batch_size % count:
            yield _Problem(
                "batch_size",
                f"expected a multiple of the {count} processes of `launch`, got "
                f"{settings.batch_size}",
            )


def _of_model(settings: TrainSettings) -> Iterator[_Problem]:
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
        for target in (each.strip() for each in settings.target_modules.split(",")):
            if not any(f".{layer}".endswith(f".{target}") for layer in layers):
                last = sorted({layer.rsplit(".", 1)[-1] for layer in layers})
                near = get_close_matches(target, last, n=3, cutoff=0.3) or last
                yield _Problem(
                    "target_modules",
                    f"no layer of {name} is called {target!r}: there are {', '.join(near)}",
                )


@cache
def _layers(folder: str) -> frozenset[str]:
    """Modules of a checkpoint that have a weight."""
    names = (entry.name for file in weight_files(Path(folder)) for entry in entries(file))
    return frozenset(name.removesuffix(".weight") for name in names if name.endswith(".weight"))


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
    """Whether a name can only be a file's or a folder's, not a hub id's."""
    return value.startswith(("/", "./", "../", "~")) or value.endswith((".jsonl", ".json"))
