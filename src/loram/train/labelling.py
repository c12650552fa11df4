"""Tasks of the kind `labels`: a model with a new head classifies texts, or scores them."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from loram.peft.attach import TaskType
from loram.tasks.table import named
from loram.tasks.task import Request, Task
from loram.train.answering import request_of
from loram.train.job import Judgement, Moment, Stage
from loram.train.model import heads, load_classifier
from loram.train.settings import TrainSettings
from loram.train.texts import CollateTexts, EncodedText, encode_texts

__all__ = ["Labelling"]

_BATCH = 32  # examples at a time when judging


class Labelling:
    """Trained on labels, and judged by the loss and the task's metrics over all examples.

    Args:
        settings: of the run.
        task: its row.
        dtype: of the base weights; the head is float32.

    Raises:
        ModelError, EmbeddedModelError, DataError: no such model or data.
    """

    task_type: TaskType = "SEQ_CLS"
    within: str | None = None
    judged_before = False  # the head is new: what it says is chance

    def __init__(self, settings: TrainSettings, task: Task, dtype: torch.dtype) -> None:
        assert task.classes is not None
        assert task.score is not None
        self._score, self._scores = task.score, task.classes == 1
        self.model, self.tokenizer = load_classifier(
            settings.model, dtype, task.classes, settings.seed
        )
        self.heads: Sequence[str] = tuple(heads(self.model))
        request = request_of(settings)
        tokens = _tokens(_Key(settings, self.tokenizer, task.name, request))
        self.train = tokens.train
        self.collate = CollateTexts(
            self.tokenizer.pad_token_id, torch.float32 if self._scores else torch.int64
        )
        self._judged = {
            "after": {"": tokens.test} | tokens.further,
            "validation": {"": tokens.validation},
        }

    def loss(self, outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        """Mean cross-entropy in nats, or mean squared error, over all examples of a step."""
        total = _summed(outputs["logits"], labels)
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    @torch.no_grad()
    def judge(self, model: Any, moment: Moment, stage: Stage, *, quick: bool = False) -> Judgement:
        """Loss and the task's metrics; of further test sets with an ending of their own."""
        sets = self._judged[moment]
        tick = stage(f"judging {moment}", sum(map(len, sets.values())))
        was_training = model.training
        model.eval()
        metrics: dict[str, float] = {}
        for ending, rows in sets.items():
            logits, labels = self._logits(model, rows, tick)
            said = logits[:, 0] if self._scores else logits.argmax(1)
            found = {
                "loss": float(_summed(logits, labels)) / len(rows),
                **self._score(said.tolist(), labels.tolist()),
            }
            metrics |= {f"{name}_{ending}" if ending else name: x for name, x in found.items()}
        model.train(was_training)
        return Judgement(metrics, [])

    def _logits(self, model: Any, rows: Sequence[EncodedText], tick: Any) -> tuple[Tensor, Tensor]:
        """Logits (rows, classes) float32 and labels (rows,) in the order of length."""
        ordered = sorted(rows, key=lambda row: len(row.input_ids))  # little of a batch is padding
        logits: list[Tensor] = []
        labels: list[Tensor] = []
        for first in range(0, len(ordered), _BATCH):
            part = ordered[first : first + _BATCH]
            batch = {k: value.to(model.device) for k, value in self.collate(part).items()}
            labels.append(batch.pop("labels").cpu())
            logits.append(model(**batch).logits.float().cpu())
            tick(len(part))
        return torch.cat(logits), torch.cat(labels)


def _summed(logits: Tensor, labels: Tensor) -> Tensor:
    """Loss of logits (examples, classes), summed over examples."""
    if logits.shape[1] == 1:
        return (logits[:, 0].float() - labels).square().sum()
    return F.cross_entropy(logits.float(), labels, reduction="sum")


class _Tokens(NamedTuple):
    train: Sequence[EncodedText]
    validation: Sequence[EncodedText]
    test: Sequence[EncodedText]
    further: dict[str, Sequence[EncodedText]]


class _Key:
    """What tokens depend on, beside the tokenizer that its name and files say."""

    def __init__(
        self, settings: TrainSettings, tokenizer: Any, task: str, request: Request
    ) -> None:
        self.tokenizer, self.task, self.request = tokenizer, task, request
        self.max_length = settings.max_length
        stamps = (_stamp(settings.model), _stamp(request.source))
        self._said = (task, request, settings.model, settings.max_length, stamps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._said == other._said

    def __hash__(self) -> int:
        return hash(self._said)


def _stamp(place: str | None) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of a local place's files: another content is another key."""
    path = None if place is None else Path(place)
    if path is None or not path.exists():
        return ()
    files = [path] if path.is_file() else sorted(each for each in path.iterdir() if each.is_file())
    return tuple((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files)


@lru_cache(maxsize=4)  # a study's runs share their data
def _tokens(key: _Key) -> _Tokens:
    splits = named(key.task).load(key.request)

    def encoded(rows: Sequence[Any]) -> Sequence[EncodedText]:
        return encode_texts(key.tokenizer, rows, key.max_length)

    return _Tokens(
        encoded(splits.train),
        encoded(splits.validation),
        encoded(splits.test),
        {ending: encoded(rows) for ending, rows in splits.further.items()},
    )
