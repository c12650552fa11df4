"""Tasks of the kind `images`: a model that sees answers questions about images.

Any `AutoModelForImageTextToText`: the language model is adapted, the projector trained whole, the
vision tower left alone, as in the paper's LLaVA experiment (arXiv 2507.06558, table 3).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from loram.peft.attach import TaskType
from loram.tasks.errors import DataError
from loram.tasks.task import Pictured, Task
from loram.train.answering import request_of
from loram.train.encode import IGNORED, Collate
from loram.train.evaluate import Written, held_out_loss
from loram.train.job import Judgement, Moment, Stage
from loram.train.model import load_seeing
from loram.train.settings import TrainSettings

__all__ = ["BadImageError", "Describing", "EncodedPicture"]

logger = logging.getLogger(__name__)

_NAMED = 20  # rows with bad images that a message lists


class BadImageError(DataError):
    """What should be an image is none, or is empty."""


class EncodedPicture(NamedTuple):
    """Tokens of a question and its answer, with the images' places among them.

    Attributes:
        input_ids: question, answer and end token.
        labels: −100 on the question and the images.
        prompt: the question as text, with a mark for each image.
        source: what it was made of.
    """

    input_ids: list[int]
    labels: list[int]
    prompt: str
    source: Pictured


class Describing:
    """Trained on answers to images; judged by their loss, and by what is written if asked for.

    Args:
        settings: of the run.
        task: its row.
        dtype: of the base weights; the projector is float32.

    Raises:
        ModelError, DataError: no such model or data, or an image that can't be read.
    """

    task_type: TaskType = "CAUSAL_LM"
    loss: Callable[..., Tensor] | None = None
    judged_before = True

    def __init__(self, settings: TrainSettings, task: Task, dtype: torch.dtype) -> None:
        seeing = load_seeing(settings.model, dtype)
        self.model, self._processor = seeing.model, seeing.processor
        self.tokenizer = seeing.processor.tokenizer
        self.heads: Sequence[str] = (seeing.projector,)
        self.within: str | None = seeing.language
        self._settings, self._task = settings, task
        self._mark = seeing.image_token_id
        splits = task.load(request_of(settings))
        self.train = self._encoded(splits.train)
        self.collate = _Collate(self._processor, self.tokenizer.pad_token_id)
        test = self._encoded(splits.test)
        self._judged = {
            "before": test,
            "after": test,
            "validation": self._encoded(splits.validation),
        }

    def judge(self, model: Any, moment: Moment, stage: Stage, *, quick: bool = False) -> Judgement:
        """Loss per answer token in nats; over the first `answers`, `exact_match` and `chrf`."""
        rows = self._judged[moment]
        loss = held_out_loss(
            model,
            rows,
            self.tokenizer.pad_token_id,
            batch_size=self._settings.batch_size,
            progress=stage(f"held-out loss {moment}", len(rows)),
            collate=self.collate,
        )
        asked = rows[: 0 if quick else self._settings.answers]
        if not asked:
            return Judgement({"loss": loss}, [])
        tick = stage(f"answers {moment}", len(asked))
        written: list[Written] = []
        was_training = model.training
        model.eval()
        for start in range(0, len(asked), self._settings.batch_size):
            part = asked[start : start + self._settings.batch_size]
            written += self._answers(model, part)
            tick(len(part))
        model.train(was_training)
        metrics = {
            "loss": loss,
            "exact_match": sum(each.correct for each in written) / len(written),
            "chrf": _overlap(written),
        }
        return Judgement(metrics, [each._asdict() for each in written])

    @torch.no_grad()
    def _answers(self, model: Any, rows: Sequence[EncodedPicture]) -> list[Written]:
        batch = self._processor(
            images=[read_images(row.source) for row in rows],
            text=[row.prompt for row in rows],
            padding=True,
            padding_side="left",
            return_tensors="pt",
        ).to(model.device)
        ids = model.generate(
            **batch,
            do_sample=False,
            max_new_tokens=self._settings.max_new_tokens,
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.tokenizer.eos_token_id,
        )
        new = ids[:, batch["input_ids"].shape[1] :]
        texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return [_judged(row.source, text.strip()) for row, text in zip(rows, texts, strict=True)]

    def _encoded(self, rows: Sequence[Pictured]) -> list[EncodedPicture]:
        encoded: list[EncodedPicture] = []
        bad: list[str] = []
        for row in rows:
            try:
                encoded.append(self._encode(row))
            except BadImageError as error:
                bad.append(str(error))
        if bad and not (self._settings.skip_bad_images and encoded):
            shown = "\n  ".join(bad[:_NAMED] + ["…"] * (len(bad) > _NAMED))
            raise DataError(
                f"{len(bad)} of {len(rows)} rows have no image that can be read; mend them, or "
                f"leave them out by --skip-bad-images, which needs some that can:\n  {shown}"
            )
        for problem in bad:
            logger.warning("left out %s", problem)
        return encoded

    def _encode(self, row: Pictured) -> EncodedPicture:
        prompt = self._prompt(row)
        made = self._processor(images=[read_images(row)], text=[prompt], return_tensors="pt")
        question: list[int] = made["input_ids"][0].tolist()
        if self._mark not in question:
            raise DataError(
                f"{row.where}: the prompt has no place for the image: expected a chat template "
                f"that writes {self._processor.image_token!r} for it"
            )
        answer = self.tokenizer(row.answer, add_special_tokens=False).input_ids
        ids = [*question, *answer, self.tokenizer.eos_token_id]
        limit = self._settings.max_length
        if len(question) >= limit:
            raise DataError(
                f"{row.where}: its images and question have {len(question)} tokens and "
                f"max_length is {limit}, so nothing of the answer is left to learn: raise "
                "--max-length"
            )
        ids = ids[:limit]
        return EncodedPicture(ids, [IGNORED] * len(question) + ids[len(question) :], prompt, row)

    def _prompt(self, row: Pictured) -> str:
        prompt = self._settings.prompt
        templated = getattr(self._processor, "chat_template", None) is not None
        if prompt == "chat" and not templated:
            raise DataError("this processor has no chat template: use prompt 'plain'")
        if prompt == "plain" or not templated:
            marks = self._processor.image_token * len(row.images)
            return f"{marks}\nQuestion: {row.question}\nAnswer: "
        content = [{"type": "image"}] * len(row.images) + [{"type": "text", "text": row.question}]
        messages = [{"role": "user", "content": content}]
        return self._processor.apply_chat_template(messages, add_generation_prompt=True)


class _Collate:
    """Tokens padded on the right, and what the processor makes of the images, read now."""

    def __init__(self, processor: Any, pad_token_id: int) -> None:
        self._processor, self._pad = processor, Collate(pad_token_id)

    def __call__(self, batch: Sequence[EncodedPicture]) -> Mapping[str, Tensor]:
        images = [read_images(row.source) for row in batch]
        prompts = [row.prompt for row in batch]
        made = self._processor(images=images, text=prompts, padding=True, return_tensors="pt")
        of_images = {
            name: value
            for name, value in made.items()
            if name not in ("input_ids", "attention_mask", "token_type_ids")
        }
        return self._pad(batch) | of_images


def read_images(row: Pictured) -> list[Any]:
    """The images of a question in RGB.

    Raises:
        BadImageError: one can't be read, or has no pixels; says which.
    """
    return [_read(image, row.where) for image in row.images]


def _read(image: Any, where: str) -> Any:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise DataError("images need Pillow: pip install 'loram[vision]'") from None
    name = image if isinstance(image, str) else type(image).__name__
    try:
        opened = image if isinstance(image, Image.Image) else Image.open(Path(image))
        opened = opened.convert("RGB")
    except (OSError, UnidentifiedImageError, TypeError, ValueError, SyntaxError) as error:
        raise BadImageError(f"{where}: can't read the image {name} ({error})") from error
    if 0 in opened.size:
        raise BadImageError(f"{where}: the image {name} has no pixels: {opened.size}")
    return opened


def _judged(source: Pictured, text: str) -> Written:
    right = _plain(text) == _plain(source.answer)
    return Written(source.question, source.answer, text, right)


def _overlap(written: Sequence[Written]) -> float:
    """chrF of the corpus, 0 to 100: n-grams of characters in common (Popović 2015)."""
    try:
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        raise DataError("answers need sacrebleu: pip install 'loram[vision]'") from None
    found = [each.written for each in written]
    return CHRF().corpus_score(found, [[each.reference for each in written]]).score


def _plain(text: str) -> str:
    """Without case, space and a full stop at the end."""
    return " ".join(text.casefold().split()).rstrip(".")
