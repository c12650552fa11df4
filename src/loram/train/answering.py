"""Tasks of the kind `answers`: a causal language model writes the answer to a question."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from loram.peft.attach import TaskType
from loram.tasks.task import Request, Task
from loram.train.encode import Collate, Encoded, encode
from loram.train.evaluate import held_out_loss, write_answers
from loram.train.job import Judgement, Moment, Stage
from loram.train.model import load_pretrained
from loram.train.settings import TrainSettings

__all__ = ["Answering", "request_of"]


def request_of(settings: TrainSettings) -> Request:
    """What a run asks of its task's data."""
    return Request(
        source=settings.data,
        config=settings.data_config,
        train_size=settings.train_size,
        validation_size=settings.validation_size,
        test_size=settings.held_out_size,
        seed=settings.data_seed,
    )


class Answering:
    """Trained on worked answers; judged by their loss, and by what is written if that is asked for.

    A kind whose examples are questions and answers in training, and that is judged otherwise,
    derives from it and has a `judge` of its own.

    Args:
        settings: of the run.
        task: its row.
        dtype: of the base weights.

    Raises:
        ModelError, EmbeddedModelError, DataError: no such model or data.
    """

    task_type: TaskType = "CAUSAL_LM"
    heads: Sequence[str] = ()
    loss: Callable[..., Tensor] | None = None
    within: str | None = None
    judged_before = True

    def __init__(self, settings: TrainSettings, task: Task, dtype: torch.dtype) -> None:
        self.model, self.tokenizer = load_pretrained(settings.model, dtype)
        self.splits = task.load(request_of(settings))
        self.settings = settings
        self.task = task
        self.train = self.encode(self.splits.train)
        self.collate = Collate(self.tokenizer.pad_token_id)
        test, validation = self.encode(self.splits.test), self.encode(self.splits.validation)
        self.judged = {
            "before": (self.splits.test, test),
            "after": (self.splits.test, test),
            "validation": (self.splits.validation, validation),
        }

    def encode(self, examples: Sequence[Any]) -> list[Encoded]:
        """Tokens of questions and answers."""
        return encode(self.tokenizer, examples, self.settings.prompt, self.settings.max_length)

    def held_out(self, model: Any, moment: Moment, stage: Stage) -> float:
        """Mean loss per answer token, in nats."""
        encoded = self.judged[moment][1]
        return held_out_loss(
            model,
            encoded,
            self.tokenizer.pad_token_id,
            batch_size=self.settings.batch_size,
            progress=stage(f"held-out loss {moment}", len(encoded)),
        )

    def judge(self, model: Any, moment: Moment, stage: Stage, *, quick: bool = False) -> Judgement:
        """Loss, and `exact_match` and the task's further rules over the questions answered.

        These are the first `answers`; all, if none are asked for and the task is judged by them.
        """
        metrics = {"loss": self.held_out(model, moment, stage)}
        settings, task, examples = self.settings, self.task, self.judged[moment][0]
        answers = settings.answers or (0 if task.metric == "loss" else len(examples))
        asked = examples[: 0 if quick else answers]
        if not asked:
            return Judgement(metrics, [])
        assert task.score is not None
        written = write_answers(
            model,
            self.tokenizer,
            asked,
            settings.prompt,
            max_new_tokens=settings.max_new_tokens,
            right=task.score,
            progress=stage(f"answers {moment}", len(asked)),
        )
        metrics["exact_match"] = sum(each.correct for each in written) / len(written)
        for name, rule in task.also.items():
            right = sum(rule(each.written, each.reference) for each in written)
            metrics[name] = right / len(written)
        return Judgement(metrics, [each._asdict() for each in written])
