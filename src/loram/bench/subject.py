"""The model that is measured, with an adapter on it, and its training step."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loram.bench.settings import BenchSettings
from loram.methods import Method, named
from loram.peft.attach import attach
from loram.train.model import load_classifier, load_pretrained

__all__ = [
    "adapted",
    "base_model",
    "batch_of",
    "frozen",
    "label",
    "pretrained",
    "row",
    "saved",
    "training_step",
]

BATCH, LENGTH = 4, 256
_TINY = 2, 16  # the same with `quick`
_FAST = "pissa-niter-"


def row(name: str) -> Method:
    """A row of the methods table; besides, `pissa-niter-N` for any N."""
    if not name.startswith(_FAST):
        return named(name)
    pissa = named("pissa")
    return Method(name, pissa.what, name.replace("-", "_"), pissa.paper, pissa.base)


def pretrained(name: str, dtype: str) -> Any:
    """A model by name; MiniLM, an encoder, with a head of two classes."""
    if name == "minilm":
        return load_classifier(name, getattr(torch, dtype), 2, 0).model
    return load_pretrained(name, getattr(torch, dtype)).model


def base_model(settings: BenchSettings, dtype: str) -> Any:
    """The model that is asked for; with `quick` a random Llama of width 64, made here."""
    if not settings.quick:
        return load_pretrained(settings.model, getattr(torch, dtype)).model
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=128,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            eos_token_id=None,
        )
        return LlamaForCausalLM(config).to(getattr(torch, dtype)).eval()


def label(settings: BenchSettings) -> str:
    """How titles call the model."""
    return "a tiny Llama" if settings.quick else settings.model


def batch_of(settings: BenchSettings, model: Any) -> Tensor:
    """Fixed random token ids (examples, tokens) for a step."""
    generator = torch.Generator().manual_seed(0)
    size = _TINY if settings.quick else (BATCH, LENGTH)
    return torch.randint(0, model.config.vocab_size, size, generator=generator)


def adapted(
    model: Any,
    method: str,
    *,
    rank: int,
    batches: Iterable[Mapping[str, Tensor]] | None = None,
    kind: Any = "CAUSAL_LM",
) -> Any:
    """The model, changed in place, with a row's adapter on all its linear layers, s = 1."""
    return attach(model, row(method), rank=rank, alpha=rank, task_type=kind, calibration=batches)[0]


def saved(model: Any, method: str, folder: Path, *, rank: int) -> None:
    """Save an adapter whose update is not zero: its factors are moved at random, as training would.

    Args:
        model: the base, changed in place.
        method: a row that PEFT saves as it is.
        folder: to write.
        rank: r.
    """
    peft_model = adapted(model, method, rank=rank)
    generator = torch.Generator().manual_seed(0)
    for parameter in peft_model.parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += (1e-2 * noise).to(parameter)
    peft_model.save_pretrained(str(folder))


def training_step(model: Any, ids: Tensor) -> Callable[..., None]:
    """One AdamW step of what is trainable in the model on these tokens (examples, tokens).

    With clear=False it drops the gradients at the start of a step, not at its end. A model without
    trainable parameters only carries the gradient back to its embeddings' output.
    """
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0) if trained else None

    def step(*, clear: bool = True) -> None:
        if optimizer is not None:
            optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        if optimizer is not None:
            optimizer.step()
            if clear:
                optimizer.zero_grad()

    return step


def frozen(model: Any) -> Any:
    """The model with nothing to train, whose backward pass still reaches its first layer."""
    model.requires_grad_(False)
    model.enable_input_require_grads()
    return model
