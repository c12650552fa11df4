"""Learning rates of methods that move a model equally far, from where each would start on it."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from loram.dynamics import Start, matched_rate
from loram.dynamics.matching import Rule
from loram.peft import LoramError
from loram.peft.attach import TaskType, attach
from loram.peft.starts import starts
from loram.train.model import heads, load_classifier, load_pretrained, load_seeing
from loram.train.run import Stage, silent
from loram.train.settings import TrainSettings

__all__ = ["Matched", "layer_starts", "matched_rates"]


class Matched(NamedTuple):
    """A method at its rate.

    Attributes:
        method: its name.
        lr: η_A.
        times: η_A over that of the reference.
        scaling: s; None for full fine-tuning, as the rest.
        nu_A: median of ν[A⁰] over layers.
        nu_B: median of ν[B⁰] over layers.
    """

    method: str
    lr: float
    times: float
    scaling: float | None
    nu_A: float | None
    nu_B: float | None


def matched_rates(
    reference: TrainSettings,
    methods: Sequence[str],
    *,
    rule: Rule = "adam",
    steps: int,
    persistence: float = 1.0,
    stage: Stage = silent,
) -> list[Matched]:
    """The reference at its rate, and methods at the rates of equal predicted ν[W_LoRA].

    Args:
        reference: model, method and rate; `full` is a method too.
        methods: to take the rate to, at the same rank and alpha and their own η_B/η_A.
        rule: as `loram.dynamics.matched_rate` takes it, like the next two.
        steps: length of the run.
        persistence: of the gradients.
        stage: for progress bars.

    Raises:
        LoramError: a method that starts from data, or full fine-tuning as one to match.
        ValidationError: not a method.
    """
    others = [
        # Made anew: a copy with another method would not be validated.
        TrainSettings.model_validate({**reference.model_dump(), "method": method, "lr_ratio": None})
        for method in methods
    ]
    stage(f"starting {reference.method}", None)
    began = layer_starts(reference)
    found = [_matched(reference, reference.lr, reference.lr, began)]
    for settings in others:
        stage(f"starting {settings.method}", None)
        layers = layer_starts(settings)
        if layers is None:
            raise LoramError(
                "full fine-tuning can be what is matched, not what is matched to it: expected "
                f"methods with an adapter, got {settings.method}"
            )
        rate = matched_rate(
            layers,
            began,
            reference.lr,
            optimizer=rule,
            steps=steps,
            persistence=persistence,
            ratio=settings.row.lr_ratio,
            reference_ratio=reference.lr_ratio or reference.row.lr_ratio,
        )
        found.append(_matched(settings, rate, reference.lr, layers))
    return found


def _matched(
    settings: TrainSettings, rate: float, reference: float, layers: Sequence[Start] | None
) -> Matched:
    if layers is None:
        return Matched(settings.method, rate, rate / reference, None, None, None)
    return Matched(
        settings.method,
        rate,
        rate / reference,
        layers[0].scaling,
        statistics.median(layer.nu_A for layer in layers),
        statistics.median(layer.nu_B for layer in layers),
    )


def layer_starts(settings: TrainSettings) -> list[Start] | None:
    """Every layer as `loram.dynamics.matched_rate` takes it; None for full fine-tuning.

    Args:
        settings: of the run, of which task, model, method, rank, scaling, layers and seed are
            read.

    Raises:
        LoramError: a method that starts from data, or that can't go on the model.
        ModelError, EmbeddedModelError: no such model.
    """
    method = settings.row
    if method.init is None:
        return None
    if method.data is not None:
        raise LoramError(
            f"{method.name} starts from data ({method.data}), so where it starts is not known "
            "before a run: expected a method that needs none"
        )
    model, task_type, new, within = _model(settings)
    with torch.random.fork_rng():  # PEFT draws its factors from the global generator
        torch.manual_seed(settings.seed)
        adapted, _ = attach(
            model,
            method,
            rank=settings.rank,
            alpha=settings.lora_alpha,
            rslora=settings.rslora,
            target_modules=settings.target_modules,
            task_type=task_type,
            heads=new,
            within=within,
        )
    return list(starts(adapted).values())


def _model(settings: TrainSettings) -> tuple[nn.Module, TaskType, Sequence[str], str | None]:
    """The model of the task, what PEFT calls it, its modules trained whole, and `Job.within`."""
    if settings.task_row.kind == "images":
        seeing = load_seeing(settings.model, torch.float32)
        return seeing.model, "CAUSAL_LM", (seeing.projector,), seeing.language
    classes = settings.task_row.classes
    if classes is None:
        return load_pretrained(settings.model, torch.float32).model, "CAUSAL_LM", (), None
    model = load_classifier(settings.model, torch.float32, classes, settings.seed).model
    return model, "SEQ_CLS", tuple(heads(model)), None
