"""What a run needs of a kind of task: the contract that one file a kind fulfils."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from torch import Tensor

from loram.peft.attach import TaskType

__all__ = ["Job", "Judgement", "Moment", "Stage"]

Moment = Literal["before", "validation", "after"]
"""When a model is judged: on the test set before and after training, or on validation."""

Stage = Callable[[str, int | None], Callable[[int], None]]
"""(what is being done, how many parts) → function told of every part that is done."""


class Judgement(NamedTuple):
    """Metrics by name, `loss` among them, and what was written, one row a question."""

    metrics: dict[str, float]
    rows: list[dict[str, Any]]


class Job(Protocol):
    """A pretrained model with its data, ready to be trained and judged.

    Attributes:
        model: pretrained; on the CPU.
        tokenizer: its own.
        task_type: PEFT's name for what the model does.
        heads: names of modules that are trained whole, as a new classifier.
        within: name of the module outside of which no layer is adapted; None for anywhere.
        train: examples as `collate` takes them.
        collate: a batch of them as the model takes it.
        loss: (outputs, labels, examples or tokens of the step) → loss of a batch, where the model's
            own is not used; None else.
        judged_before: whether the pretrained model can do the task already.
    """

    model: Any
    tokenizer: Any
    task_type: TaskType
    heads: Sequence[str]
    within: str | None
    judged_before: bool

    @property
    def train(self) -> Sequence[Any]: ...  # noqa: D102

    @property
    def collate(self) -> Callable[[Sequence[Any]], Mapping[str, Tensor]]: ...  # noqa: D102

    @property
    def loss(self) -> Callable[..., Tensor] | None: ...  # noqa: D102

    def judge(self, model: Any, moment: Moment, stage: Stage, *, quick: bool = False) -> Judgement:
        """Judge a model as it is; neither its mode nor a random state is changed.

        Args:
            model: the job's, or what has become of it.
            moment: which says the examples.
            stage: for progress bars.
            quick: leave out what costs more than a pass over the examples.
        """
        ...
