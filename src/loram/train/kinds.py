"""The kinds of tasks that a run can train: a file each, and a row."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch

from loram.tasks.task import Kind, Task
from loram.train.answering import Answering
from loram.train.choosing import Choosing
from loram.train.describing import Describing
from loram.train.job import Job
from loram.train.labelling import Labelling
from loram.train.programming import Programming
from loram.train.settings import TrainSettings

__all__ = ["KINDS", "UnknownKindError", "prepare"]

_Prepare = Callable[[TrainSettings, Task, torch.dtype], Job]

KINDS: Mapping[Kind, _Prepare] = MappingProxyType[Kind, _Prepare](
    {
        "answers": Answering,
        "labels": Labelling,
        "choices": Choosing,
        "programs": Programming,
        "images": Describing,
    }
)
"""What loads model and data, by the kind of the task."""


class UnknownKindError(ValueError):
    """The task is of a kind that no run can train."""


def prepare(settings: TrainSettings, dtype: torch.dtype) -> Job:
    """The model and the data of a run.

    Raises:
        ModelError, EmbeddedModelError, DataError: no such model or data.
        UnknownKindError: the task can't be trained.
    """
    task = settings.task_row
    if task.kind not in KINDS:
        raise UnknownKindError(
            f"the task {task.name} is of the kind {task.kind}: expected one of {', '.join(KINDS)}"
        )
    return KINDS[task.kind](settings, task, dtype)
