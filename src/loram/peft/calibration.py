# pyright: reportPrivateUsage=false
"""What data-driven initialisations need to know of the data, gathered before the adapter is made.

    >>> used = loram.calibrate(model, config, batches)   # then get_peft_model(model, config)

Gathering is PEFT's own (`preprocess_corda`, `preprocess_loraga`); what it finds stays on the layers
until the adapter is made. EVA works on the adapter that is made already: `calibrate_eva`.
"""

import copy
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, LoraGAConfig, initialize_lora_eva_weights
from peft.tuners.lora import LoraLayer, LoraModel
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.loraga import preprocess_loraga
from peft.tuners.tuners_utils import _maybe_include_all_linear_layers
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from loram.peft.errors import LoramError
from loram.peft.spec import parse

__all__ = [
    "COVARIANCE",
    "GRADIENT",
    "Calibration",
    "calibrate",
    "calibrate_eva",
    "forget",
    "gradient_of",
    "missing",
    "resolved",
]

# Where PEFT leaves what it found, on the layer itself.
COVARIANCE = "eigens"
GRADIENT = "_peft_loraga_grad"

Batch = Mapping[str, Tensor]
"""input_ids, attention_mask and, for gradients, labels, each (examples, tokens)."""


class Calibration(NamedTuple):
    """What a data-driven initialisation used.

    Attributes:
        examples: rows of the batches.
        tokens: that are not padding.
        seconds: wall clock, all passes.
    """

    examples: int
    tokens: int
    seconds: float


def calibrate(model: nn.Module, config: LoraConfig, batches: Iterable[Batch]) -> Calibration:
    """Gather what `config.init_lora_weights` needs; call before `get_peft_model`.

    For CorDA and LoRA-GA (PEFT's), LoRA-One, and LoRAM tracking one of them. The model's weights
    are not changed, and its modes and what trains of it are as before, also after an error.

    Args:
        model: the base model.
        config: of the adapter; not changed. CorDA's mode is taken from its `corda_config`.
        batches: the calibration stream. CorDA sees one example at a time, without padding.

    Returns:
        How much was used: zero for a method that needs no data, whose batches are not read.

    Raises:
        LoramError: no batches; or EVA, which is started after the adapter is made.
    """
    if config.init_lora_weights == "eva":
        raise LoramError(
            "EVA starts from data after the adapter is made: call get_peft_model, then "
            "peft.initialize_lora_eva_weights(model, batches)"
        )
    gather = _GATHERERS.get(_reads(config))
    began = time.perf_counter()
    stream = _Stream(batches)
    if gather is not None:
        with _undisturbed(model):
            gather(model, resolved(config, model), stream)
    return Calibration(stream.examples, stream.tokens, time.perf_counter() - began)


def calibrate_eva(model: Any, batches: Iterable[Batch]) -> Calibration:
    """Start an EVA adapter from the inputs of its layers, by PEFT's `initialize_lora_eva_weights`.

    PEFT goes over the batches until every layer's vectors stand still, so a short stream is read
    more than once; examples and tokens count every reading.

    Args:
        model: a PeftModel made with `init_lora_weights="eva"`.
        batches: the calibration stream.

    Raises:
        LoramError: no batches.
    """
    began = time.perf_counter()
    rows = list(batches)
    stream = _Stream(rows)

    def forward(model: Any, batch: Batch) -> Any:
        stream.count(batch)
        device = next(model.parameters()).device
        return model(**{key: value.to(device) for key, value in batch.items()})

    if not rows:
        stream.check("eva")
    # Labels of texts, not of tokens, say nothing of which tokens count.
    rows = [
        {k: x for k, x in row.items() if k != "labels" or x.shape == row["input_ids"].shape}
        for row in rows
    ]
    _refuse_pooled(model, lambda: forward(model, rows[0]))
    stream = _Stream(rows)
    initialize_lora_eva_weights(model, rows, forward_fn=forward, show_progress_bar=False)
    return Calibration(stream.examples, stream.tokens, time.perf_counter() - began)


@torch.no_grad()
def _refuse_pooled(model: nn.Module, forward: Callable[[], Any]) -> None:
    """PEFT's EVA reads a layer's inputs token by token, and would pick wrong numbers of others."""
    pooled: list[str] = []
    hooks: list[Any] = []
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer) and isinstance(module, nn.Module):

            def look(_: nn.Module, inputs: tuple[Any, ...], name: str = name) -> None:
                if torch.is_tensor(inputs[0]) and inputs[0].dim() == 2:
                    pooled.append(name)

            hooks.append(module.register_forward_pre_hook(look))
    try:
        with torch.random.fork_rng():
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    if pooled:
        raise LoramError(
            f"PEFT's EVA starts from what a layer sees of every token, and {', '.join(pooled)} "
            "sees one vector a text: expected target_modules without it, such as query,value"
        )


def gradient_of(base: nn.Module, init: str) -> Tensor:
    """∂L/∂W (n, m) that a calibration left on a layer.

    Raises:
        ValueError: there was none.
    """
    gradient = getattr(base, GRADIENT, None)
    if gradient is None:
        raise missing(init)
    return gradient.T if isinstance(base, Conv1D) else gradient


def missing(init: object) -> ValueError:
    """The error for a data-driven method that was given no data."""
    return ValueError(
        f"{init} starts from data, and this layer has seen none: call loram.calibrate(model, "
        "config, batches) before the adapter is made, with batches of input_ids, attention_mask "
        "and labels (on the command line, `loram train` takes them from its training data)"
    )


def forget(model: nn.Module) -> None:
    """Take off the layers what calibration left there and no adapter has used."""
    for module in model.modules():
        for name in (COVARIANCE, GRADIENT):
            module.__dict__.pop(name, None)


def _reads(config: LoraConfig) -> object:
    """The initialisation whose data is needed: the config's own, or the one that LoRAM tracks."""
    ours = parse(config.init_lora_weights)
    return config.init_lora_weights if ours is None else ours.tracked


class _Stream:
    """Counts what is read of the batches."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches = batches
        self.examples = self.tokens = 0

    def count(self, batch: Batch) -> None:
        ids = batch["input_ids"]
        self.examples += ids.shape[0]
        mask = batch.get("attention_mask")
        self.tokens += int(ids.numel() if mask is None else mask.sum())

    def on(self, model: nn.Module) -> Iterable[dict[str, Tensor]]:
        """The batches on the model's device."""
        device = next(model.parameters()).device
        for batch in self._batches:
            self.count(batch)
            yield {key: value.to(device) for key, value in batch.items()}

    def check(self, init: object) -> None:
        if self.examples == 0:
            raise LoramError(
                f"{init} starts from data and got no batch: expected at least one, of input_ids, "
                "attention_mask and labels"
            )


def _covariances(model: nn.Module, config: LoraConfig, stream: _Stream) -> None:
    # Here, since it imports attrs, which PEFT does not ask for.
    from peft.tuners.lora.corda import preprocess_corda

    @torch.no_grad()
    def run() -> None:
        with _one_row_is_a_sequence(model):
            for batch in stream.on(model):
                mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
                kinds = batch.get("token_type_ids", torch.zeros_like(batch["input_ids"]))
                for ids, kind, real in zip(batch["input_ids"], kinds, mask, strict=True):
                    told = {"token_type_ids": kind[real][None]} if "token_type_ids" in batch else {}
                    model(input_ids=ids[real][None], **told)
        stream.check("corda")

    config.init_lora_weights = "corda"
    config.corda_config = config.corda_config or CordaConfig()
    preprocess_corda(model, config, run_model=run)


@contextmanager
def _one_row_is_a_sequence(model: nn.Module) -> Generator[None]:
    """Gives layers after pooling (1, 1, m) for (1, m): PEFT's hooks take the first for a batch."""

    def widen(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0][None], *inputs[1:]) if inputs[0].dim() == 2 else inputs

    def narrow(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return output[0] if output.dim() == 3 and id(module) in pooled else output

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs[0].dim() == 2:
            pooled.add(id(module))
        else:
            pooled.discard(id(module))

    pooled: set[int] = set()
    linear = [module for module in model.modules() if isinstance(module, nn.Linear | Conv1D)]
    hooks = [
        handle
        for module in linear
        for handle in (
            module.register_forward_pre_hook(note),
            module.register_forward_pre_hook(widen),
            module.register_forward_hook(narrow),
        )
    ]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def _gradients(model: nn.Module, config: LoraConfig, stream: _Stream) -> None:
    def run() -> None:
        for batch in stream.on(model):
            model(**batch).loss.backward()
        stream.check(config.init_lora_weights)

    config.lora_ga_config = config.lora_ga_config or LoraGAConfig()
    with warnings.catch_warnings():
        # PEFT's hooks only count, and the first layers' inputs need no gradient.
        warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
        preprocess_loraga(model, config, run)


@contextmanager
def _undisturbed(model: nn.Module) -> Generator[None]:
    """Put back what PEFT's preprocessing changes of a model beside what it is to leave there.

    Modes, `requires_grad` and gradients always (PEFT would add to those that are there); after an
    error also its hooks and notes on the modules.
    """
    modes = [(module, module.training) for module in model.modules()]
    trains = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    notes: list[tuple[MutableMapping[Any, Any], set[Any]]] = [
        (kept, set(kept))
        for module in model.modules()
        for kept in (vars(module), module._forward_hooks, module._backward_hooks)
    ]
    for parameter, _, _ in trains:
        parameter.grad = None
    try:
        yield
    except BaseException:
        for kept, before in notes:
            for key in set(kept) - before:
                del kept[key]
        raise
    finally:
        for module, training in modes:
            module.training = training
        for parameter, required, gradient in trains:
            parameter.requires_grad_(required)
            parameter.grad = gradient


_GATHERERS: dict[object, Callable[[nn.Module, LoraConfig, _Stream], None]] = {
    "corda": _covariances,
    "lora_ga": _gradients,
    "lora_one": _gradients,
}


def resolved(config: LoraConfig, model: nn.Module) -> LoraConfig:
    """A copy with its target modules spelt out: PEFT's preprocessing knows no shorthand."""
    resolved: Any = copy.deepcopy(config)
    tuner: Any = LoraModel
    if resolved.target_modules is None:
        model_type = tuner.get_model_config(model)["model_type"]
        resolved.target_modules = set(tuner.target_module_mapping[model_type])
    return _maybe_include_all_linear_layers(resolved, model)  # pyright: ignore[reportReturnType]
