"""Every task that a model is trained on and judged by, as rows of one table.

    >>> named("glue/mrpc").metric
    'accuracy'

A new task is a file here that makes a `Task`, and a row.
"""

from difflib import get_close_matches
from types import MappingProxyType

from loram.tasks.benchmarks import BENCHMARKS
from loram.tasks.glue import GLUE
from loram.tasks.pairs import ANSWERS
from loram.tasks.pictures import PICTURES
from loram.tasks.task import Task

__all__ = ["TASKS", "UnknownTaskError", "named"]

_ROWS = (ANSWERS, PICTURES, *GLUE, *BENCHMARKS)

TASKS: MappingProxyType[str, Task] = MappingProxyType({row.name: row for row in _ROWS})
"""The rows by name, in the table's order."""


class UnknownTaskError(ValueError):
    """No row has this name; the message lists near ones."""


def named(name: str) -> Task:
    """The row of a name, in any case.

    Raises:
        UnknownTaskError: there is none.
    """
    task = TASKS.get(name.strip().lower())
    if task is None:
        near = get_close_matches(name.strip().lower(), TASKS, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UnknownTaskError(f"unknown task {name!r}.{hint} Known: {', '.join(TASKS)}")
    return task
