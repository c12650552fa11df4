"""A recommender from settings: a pretrained model, its adapter by any method, projectors, gates."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from loram.peft.attach import load_adapter
from loram.peft.gated import Gates, expert_alpha, gate_
from loram.recommend.errors import RecommendError
from loram.recommend.llm.projector import Projectors
from loram.recommend.llm.recommender import Recommender, Router
from loram.recommend.llm.settings import LLMSettings, method_row
from loram.recommend.llm.vectors import Vectors
from loram.train.job import Job
from loram.train.settings import TrainSettings
from loram.train.subject import Subject, begin

__all__ = ["Built", "assemble", "build", "reload"]


class _Bare(NamedTuple):
    """Of a job, what its adapter is started on; data and judging are this room's own."""

    model: Any
    task_type: str = "CAUSAL_LM"
    heads: tuple[str, ...] = ()
    within: str | None = None


class Built(NamedTuple):
    """A recommender that is ready to train, and what saves its language model."""

    model: Recommender
    subject: Subject


def _begin(
    llm: Any,
    settings: LLMSettings,
    calibration: Iterable[Mapping[str, Tensor]],
    out: Path,
) -> Subject:
    """Start the adapter of a run, or make all weights trainable for full fine-tuning.

    Args:
        llm: pretrained; changed in place.
        settings: of the run.
        calibration: batches of text prompts, for a method that starts from data.
        out: the run's folder.
    """
    of = settings.adapter
    alpha = of.alpha
    if of.experts > 1:
        row = method_row(of.method)
        alpha = expert_alpha(alpha, of.experts, rslora=of.rslora or row.rslora)
    shared = {"method", "rank", "rslora", "dropout", "target_modules"}
    asked = TrainSettings.model_validate(
        {
            **of.model_dump(include=shared),
            **settings.model_dump(include={"model", "lr", "weight_decay", "seed"}),
            "alpha": alpha,
        }
    )
    llm.requires_grad_(False)
    return begin(cast(Job, _Bare(llm)), asked, calibration, out)


def assemble(llm: Any, settings: LLMSettings, tables: Mapping[str, Tensor]) -> Recommender:
    """A language model that has its adapter, with the other parts around it, newly drawn.

    Args:
        llm: with its adapter.
        settings: of the run.
        tables: vectors by kind.

    Raises:
        RecommendError: the prompt or the gate asks for vectors that are not there.
    """
    kinds = settings.prompt.hybrid_template.kinds()
    gated = settings.adapter.experts > 1
    needed = kinds | ({settings.adapter.gate} if gated else set())
    missing = sorted(needed - tables.keys())
    if missing:
        raise RecommendError(
            f"the prompt or the gate asks for {', '.join(missing)} vectors and the encoder "
            f"{settings.encoder.name} gives {', '.join(sorted(tables)) or 'none'}: use another "
            "encoder, or another template"
        )
    vectors = Vectors({kind: tables[kind] for kind in sorted(needed)})
    projectors = router = gates = None
    if kinds:
        widths = {kind: vectors.widths[kind] for kind in sorted(kinds)}
        hidden = llm.get_input_embeddings().weight.shape[1]
        try:
            projectors = Projectors(widths, hidden, settings.projector)
        except ValueError as error:
            raise RecommendError(f"encoder {settings.encoder.name}: {error}") from error
    if gated:
        of = settings.adapter
        gates = Gates(of.experts)
        gate_(llm, gates)
        router = Router(vectors.widths[of.gate], of.experts, of.gate)
    device = next(llm.parameters()).device
    return Recommender(llm, vectors, projectors, router, gates).to(device)


def build(
    llm: Any,
    settings: LLMSettings,
    tables: Mapping[str, Tensor],
    calibration: Iterable[Mapping[str, Tensor]],
    out: Path,
) -> Built:
    """Both: the adapter started, the parts around it drawn from the run's seed."""
    torch.manual_seed(settings.seed)
    subject = _begin(llm, settings, calibration, out)
    return Built(assemble(subject.model, settings, tables), subject)


def reload(llm: Any, settings: LLMSettings, tables: Mapping[str, Tensor], out: Path) -> Recommender:
    """A finished run's recommender, for inference.

    Args:
        llm: the pretrained model; of a fully fine-tuned one, its own `out/model`.
        settings: of the run.
        tables: vectors by kind, of the cases that will be asked.
        out: the run's folder.

    Raises:
        RecommendError: the run is not finished, or its files are damaged.
    """
    from loram.recommend.llm.folder import read_parts

    adapter = out / "adapter"
    model = assemble(load_adapter(llm, adapter) if adapter.is_dir() else llm, settings, tables)
    parts = read_parts(out)
    for name, module in (("projectors", model.projectors), ("router", model.router)):
        if module is not None:
            start = f"{name}."
            mine = {k[len(start) :]: v for k, v in parts.items() if k.startswith(start)}
            try:
                module.load_state_dict(mine)
            except RuntimeError as error:
                raise RecommendError(
                    f"{out}: its parts do not fit its settings ({error})"
                ) from error
    with torch.no_grad():
        for kind in {"user", "item"} & set(model.vectors.tables):  # the rest is of each case
            trained = parts.get(f"vectors.tables.{kind}")
            if trained is not None and trained.shape == model.vectors.tables[kind].shape:
                model.vectors.tables[kind].copy_(trained)
    return model.eval()
