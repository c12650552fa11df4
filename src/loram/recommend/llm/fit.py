"""Training in stages, with early stopping, that goes on after a kill with the same numbers.

Everything random is drawn from the seed and the step, but for dropout, whose state is kept in the
checkpoint with the parameters, the best ones so far and the optimiser's moments.
"""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from loram.recommend.errors import RecommendError
from loram.recommend.llm.examples import Example
from loram.recommend.llm.folder import Checkpoint, read_checkpoint, write_checkpoint
from loram.recommend.llm.losses import LOSSES
from loram.recommend.llm.recommender import Recommender
from loram.recommend.llm.schedule import Stage, is_hybrid, order
from loram.recommend.llm.settings import LLMSettings

__all__ = ["Fit", "Judge", "Progress", "fit", "trainable"]

logger = logging.getLogger(__name__)

Judge = Callable[[bool], float]
"""Whether prompts are hybrid → the validation metric, the more the better."""
Progress = Callable[[str, int], Callable[[int], None]]


class Fit(NamedTuple):
    """What is the same for all stages.

    Attributes:
        model: the recommender.
        settings: of the run.
        examples: to learn from.
        words: ids of Yes and No.
        pad: id of the padding token.
        judge: for early stopping; None where there is nothing to judge by.
        groups: the adapter's parameters in groups, each with the ratio of its learning rate.
        out: the run's folder.
    """

    model: Recommender
    settings: LLMSettings
    examples: Sequence[Example]
    words: Sequence[int]
    pad: int
    judge: Judge | None
    groups: Sequence[tuple[Sequence[nn.Parameter], float]]
    out: Path


def trainable(model: Recommender, groups: Sequence[tuple[Sequence[nn.Parameter], float]]) -> Any:
    """Parameters by the part of the model that a stage may train."""
    tables = model.vectors.tables
    return {
        "adapter": [p for group, _ in groups for p in group],
        "projector": [] if model.projectors is None else list(model.projectors.parameters()),
        "router": [] if model.router is None else list(model.router.parameters()),
        "encoder": [tables[kind] for kind in ("user", "item") if kind in tables],
    }


def fit(run: Fit, progress: Progress = lambda what, total: lambda n: None) -> list[dict[str, Any]]:
    """Train all stages; returns a line for each step and each judgement.

    Raises:
        RecommendError: training diverged, the checkpoint is damaged, or a stage has nothing to
            train or to judge by.
    """
    found = read_checkpoint(run.out)
    lines: list[dict[str, Any]] = [] if found is None else found.state["lines"]
    first = 0 if found is None else found.state["stage"]
    for index in range(first, len(run.settings.stages)):
        training = _Training(run, index, lines)
        if found is not None:
            training.restore(found)
            found = None
        training.run(progress)
    if found is not None:  # killed after the last stage
        _Training(run, len(run.settings.stages) - 1, lines).restore_parameters(found)
    return lines


class _Training:
    """One stage."""

    def __init__(self, run: Fit, index: int, lines: list[dict[str, Any]]) -> None:
        self._run, self._index, self._lines = run, index, lines
        self._stage: Stage = run.settings.stages[index]
        self._step, self._bad = 0, 0
        self._best: float | None = None
        self._kept: dict[str, Tensor] = {}
        self._loss = LOSSES[run.settings.loss]
        self._total = self._stage.steps(len(run.examples), run.settings.batch_size)
        parts = trainable(run.model, run.groups)
        for part, parameters in parts.items():
            for parameter in parameters:
                parameter.requires_grad_(part in self._stage.trains)
        ever = {part for stage in run.settings.stages for part in stage.trains}
        ids = {id(p) for part in ever for p in parts[part]}
        self._saved = {n: p for n, p in run.model.named_parameters() if id(p) in ids}
        self._optimizer = self._make_optimizer(parts)
        if self._stage.patience is not None and run.judge is None:
            raise RecommendError("early stopping needs validation samples, and the data has none")

    def _make_optimizer(self, parts: dict[str, list[nn.Parameter]]) -> torch.optim.Optimizer:
        settings = self._run.settings
        lr = settings.lr if self._stage.lr is None else self._stage.lr
        groups: list[dict[str, Any]] = []
        for part in self._stage.trains:
            if not parts[part]:
                raise RecommendError(
                    f"stage {self._index + 1} trains the {part}, and this model has none: take it "
                    "out of trains"
                )
            if part == "adapter":
                groups += [{"params": list(p), "lr": lr * ratio} for p, ratio in self._run.groups]
            else:
                rate = settings.adapter.router_lr if part == "router" else 1.0
                groups.append({"params": parts[part], "lr": lr * rate})
        groups = [{**group, "peak": group["lr"]} for group in groups]
        return torch.optim.AdamW(groups, lr=lr, weight_decay=settings.weight_decay)

    def run(self, progress: Progress) -> None:
        """To the end of the stage, from wherever it stands."""
        settings, stage = self._run.settings, self._stage
        name = f"training {', '.join(stage.trains)}"
        if len(settings.stages) > 1:
            name += f" ({self._index + 1}/{len(settings.stages)})"
        tick = progress(name, self._total)
        tick(self._step)
        per_epoch = -(-len(self._run.examples) // settings.batch_size)
        self._run.model.train()
        while self._step < self._total and not self._is_over():
            self._one_step(per_epoch)
            tick(1)
            if stage.patience is not None and (
                self._step % (settings.judge_every or per_epoch) == 0 or self._step == self._total
            ):
                self._judge()
            if self._step % settings.save_every == 0:
                self._save(self._index)
        if self._best is not None:
            with torch.no_grad():
                for key, parameter in self._saved.items():
                    parameter.copy_(self._kept[key])
        self._kept, self._optimizer = {}, torch.optim.SGD([torch.zeros(1)])
        self._save(self._index + 1)

    def _is_over(self) -> bool:
        return self._stage.patience is not None and self._bad >= self._stage.patience

    def _one_step(self, per_epoch: int) -> None:
        run, settings = self._run, self._run.settings
        seed = settings.seed + 7919 * self._index
        epoch, place = divmod(self._step, per_epoch)
        shuffled = order(len(run.examples), epoch, seed=seed)
        chosen = shuffled[place * settings.batch_size : (place + 1) * settings.batch_size]
        hybrid = is_hybrid(self._stage.prompts, self._step, self._total, seed=seed)
        # By length, so that little is padding.
        examples = [run.examples[i] for i in chosen]
        examples.sort(key=lambda each: len(each.prompt(hybrid)))
        size = settings.micro_batch or len(examples)
        loss = 0.0
        for start in range(0, len(examples), size):
            part = examples[start : start + size]
            share = self._loss(run.model, part, hybrid, run.words, run.pad)
            share = share * (len(part) / len(examples))
            if share.requires_grad:  # text prompts give none to a projector that is alone
                share.backward()
            loss += float(share.detach())
        if not math.isfinite(loss):
            raise RecommendError(
                f"training diverged: the loss is {loss} at step {self._step + 1} of stage "
                f"{self._index + 1}, at lr {settings.lr:g}. Use a lower one, in a new folder"
            )
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        if settings.max_grad_norm:
            nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        factor = self._factor()
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._step += 1
        line = {"stage": self._index + 1, "step": self._step, "loss": loss, "hybrid": hybrid}
        self._lines.append(line)

    def _factor(self) -> float:
        """Of the learning rate at this step: linear warm-up, then the schedule down to 0."""
        warm = min(self._run.settings.warmup_steps, self._total - 1)
        if self._step < warm:
            return (self._step + 1) / (warm + 1)
        done = (self._step - warm) / (self._total - warm)
        return _SCHEDULES[self._run.settings.schedule](done)

    def _judge(self) -> None:
        assert self._run.judge is not None
        value = self._run.judge(self._stage.prompts != "text")
        if math.isnan(value):
            raise RecommendError(
                "validation samples of one class have no AUC to stop by: draw more (data.valid)"
            )
        if self._best is None or value > self._best:
            self._best, self._bad = value, 0
            self._kept = {name: p.detach().clone() for name, p in self._saved.items()}
        else:
            self._bad += 1
        self._lines.append({"stage": self._index + 1, "step": self._step, "valid": value})

    def _save(self, stage: int) -> None:
        """Where the run stands: in this stage, or at the beginning of the next."""
        tensors = {f"now.{name}": p for name, p in self._saved.items()}
        tensors |= {f"best.{name}": p for name, p in self._kept.items()}
        tensors["random"] = torch.get_rng_state()
        if torch.cuda.is_available():  # where dropout draws
            states = enumerate(torch.cuda.get_rng_state_all())
            tensors |= {f"cuda.{number}": state for number, state in states}
        state = {"stage": stage, "lines": self._lines}
        if stage == self._index:
            state |= {"step": self._step, "best": self._best, "bad": self._bad}
            held = self._optimizer.state_dict()["state"]
            tensors |= {
                f"optimizer.{i}.{k}": v for i, each in held.items() for k, v in each.items()
            }
        write_checkpoint(self._run.out, Checkpoint(state, tensors))

    @torch.no_grad()
    def restore_parameters(self, found: Checkpoint) -> None:
        """Write a checkpoint's parameters into the model."""
        for name, parameter in self._saved.items():
            parameter.copy_(found.tensors[f"now.{name}"])

    def restore(self, found: Checkpoint) -> None:
        """Go on from a checkpoint."""
        self.restore_parameters(found)
        torch.set_rng_state(found.tensors["random"])
        for name, state in found.tensors.items():
            if name.startswith("cuda."):
                torch.cuda.set_rng_state(state, int(name.removeprefix("cuda.")))
        if "step" not in found.state:
            return
        self._step, self._best = found.state["step"], found.state["best"]
        self._bad = found.state["bad"]
        mine = {k: v for k, v in found.tensors.items() if k.startswith("best.")}
        self._kept = {name.removeprefix("best."): tensor for name, tensor in mine.items()}
        whole = self._optimizer.state_dict()
        for name, tensor in found.tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                whole["state"].setdefault(int(index), {})[key] = tensor
        self._optimizer.load_state_dict(whole)


_SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
}
