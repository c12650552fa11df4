"""Training settings of one run of a study: base, then its task's, then its method's."""

from typing import Any

from loram.study.spec import MethodEntry, Spec, TaskEntry
from loram.train.model import pick_dtype
from loram.train.settings import TrainSettings

__all__ = ["AXES", "fields", "resolve"]

AXES = {
    "task": "tasks",
    "method": "methods",
    "rank": "ranks",
    "lr": "lrs or recipe",
    "seed": "seeds",
    "keep": "keep: adapters",
}
"""Settings that the study itself sets, and the part of it that says so."""


def resolve(
    spec: Spec, task: TaskEntry, method: MethodEntry, *, rank: int, lr: float, seed: int
) -> TrainSettings:
    """The settings of a run.

    The dtype `auto` becomes what it means on this machine: a cluster runs the same everywhere.

    Raises:
        ValidationError: they are none.
    """
    given = fields(spec, task, method)
    keep = "adapter" if spec.keep == "adapters" else "nothing"
    axes = {"rank": rank, "lr": lr, "seed": seed, "keep": keep}
    settings = TrainSettings.model_validate({**given, **axes})
    if settings.dtype != "auto":
        return settings
    dtype = str(pick_dtype("auto")).removeprefix("torch.")
    return settings.model_copy(update={"dtype": dtype})


def fields(spec: Spec, task: TaskEntry, method: MethodEntry) -> dict[str, Any]:
    """What the study says of a task and a method, as settings."""
    named = {"task": task.name, "method": method.name}
    return {**spec.base, **task.settings, **method.settings, **named}
