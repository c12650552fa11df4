"""A ready adapter for a checkpoint that is never loaded: `loram init`.

The model is built on the meta device, PEFT itself puts the adapter on it, and what the adapter
needs of the weights, ν[W] of each target, is read from the files in pieces. What is written is bit
for bit what `get_peft_model(model, config).save_pretrained(out)` writes.

>>> stream_init("meta-llama/Llama-2-7b-hf", "adapter", LoraConfig(r=16, init_lora_weights="loram"))
"""

import math
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial, wraps
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from peft.utils.error import NoMatchingPeftModuleError
from torch import Tensor

from loram.checkpoints import CheckpointError, Entry, entries, snapshot, weight_files
from loram.files import staged_folder
from loram.magnitude import MeanSquare
from loram.peft.errors import LoramError
from loram.peft.export import free_folder
from loram.peft.kinds import Kind, Site, known, site_of
from loram.peft.layers import LoraModule, lora_layers, padding_of
from loram.peft.preflight import report
from loram.peft.record import ATTRIBUTE, BasisRecord
from loram.peft.skeleton import TASKS, Skeleton, skeleton
from loram.peft.spec import DEVIATION, LoramInit, parse
from loram.peft.start import loading
from loram.schemes.loram import beta, beta_for_magnitude, check_rank
from loram.streams import one_thread, pieces, read_whole

__all__ = ["Streamed", "config_of", "stream_init"]

_ADAPTER = "default"
_PREFIX = "base_model.model."
_UNSUPPORTED = ("target_parameters", "layer_replication", "modules_to_save")


@dataclass(frozen=True, slots=True)
class Streamed:
    """What was written.

    Attributes:
        path: the adapter's folder.
        layers: that it is on.
        read: bytes of weights that were read for their magnitudes.
        bytes: size of the adapter's weights file.
    """

    path: Path
    layers: int
    read: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Target:
    """A layer, its weight in the files, and its dtype once loaded."""

    path: str
    layer: LoraModule
    kind: Kind
    site: Site
    r: int
    entry: Entry

    @property
    def name(self) -> str:
        return _own(self.path)

    @property
    def dtype(self) -> torch.dtype:
        return self.kind.parameter(self.site).dtype

    @property
    def shape(self) -> tuple[int, int]:
        n, m = self.kind.read(self.site).shape
        return n, m


def stream_init(
    checkpoint: str,
    out: str | os.PathLike[str],
    config: LoraConfig,
    *,
    dtype: str = "auto",
    task: str = "auto",
    begin: Callable[[int], Callable[[int], None]] = lambda total: lambda done: None,
) -> Streamed:
    """Write the untrained LoRAM adapter of a checkpoint, reading it once and in pieces.

    Args:
        checkpoint: folder with config.json and safetensors files, or hub id.
        out: folder to write; must not exist, or be empty. Whole or not there.
        config: with a LoRAM string in the deviation form; its task type is that of `task`.
        dtype: that the base is to be loaded in, as `from_pretrained` takes it.
        task: `causal-lm`, `seq2seq-lm` or `encoder`; `auto` by the checkpoint's config.
        begin: told the number of layers, gives what is told of each one done.

    Returns:
        What was written.

    Raises:
        LoramError: the adapter can't be had this way; lists every reason, with the way out.
        CheckpointError: a damaged or incomplete checkpoint.
    """
    init = _checked(config)
    target = free_folder(out)
    where = Path(checkpoint)
    if where.is_file():
        raise LoramError(
            f"{where}: expected a folder with config.json beside the weights, or a hub id"
        )
    files = weight_files(where if where.is_dir() else snapshot(checkpoint))
    held = [entry for file in files for entry in entries(file)]
    bare = skeleton(checkpoint, held, dtype=dtype, task=task)
    model = _inject(bare, config)
    targets = _targets(model, bare, config)
    betas = _betas(targets, init, config, begin(len(targets)))
    with staged_folder(target) as staging:
        state = _state(model, bare, targets, betas, init)
        model.save_pretrained(str(staging), state_dict=state)
        size = sum(file.stat().st_size for file in staging.glob("*.safetensors"))
    return Streamed(target, len(targets), sum(each.entry.bytes for each in targets), size)


def config_of(
    rank: int,
    *,
    alpha: float | None = None,
    rslora: bool = False,
    init: str = "loram",
    target_modules: str = "all-linear",
) -> LoraConfig:
    """The config of `loram init`.

    Args:
        rank: r.
        alpha: `lora_alpha`; r by default.
        rslora: s = α/√r.
        init: a LoRAM string.
        target_modules: `all-linear`; names joined by commas; or, if it has any of \\ * | ( [, a
            regular expression.

    Raises:
        LoramError: `init` can't be understood.
    """
    expression = target_modules == "all-linear" or any(sign in target_modules for sign in "\\*|([")
    named = [name.strip() for name in target_modules.split(",")]
    wanted: Any = rank if alpha is None else int(alpha) if float(alpha).is_integer() else alpha
    try:
        parse(init)
        return LoraConfig(
            r=rank,
            lora_alpha=wanted,
            use_rslora=rslora,
            init_lora_weights=init,  # pyright: ignore[reportArgumentType]
            target_modules=target_modules if expression else named,
        )
    except ValueError as error:
        raise LoramError(str(error)) from error


def _checked(config: LoraConfig) -> LoramInit:
    init = parse(config.init_lora_weights)
    if init is None:
        raise LoramError(
            f"expected a LoRAM string such as 'loram(gain=log)', got {config.init_lora_weights!r}"
        )
    problems: list[str] = []
    if init.is_residual:
        problems.append(
            "the residual form rewrites the base weights, which are not loaded here: use "
            f"{DEVIATION!r}, which trains the same, or load the model and use get_peft_model"
        )
    if init.tracked is not None:
        problems.append(
            f"gain=track:{init.tracked} runs another initialisation on the loaded model: use "
            "get_peft_model, or another gain"
        )
    problems += [
        f"{name} is not for a streamed checkpoint: leave it out, or load the model and use "
        "get_peft_model"
        for name in _UNSUPPORTED
        if getattr(config, name, None)
    ]
    report(config.init_lora_weights, problems)
    return init


def _inject(bare: Skeleton, config: LoraConfig) -> Any:
    """The skeleton with the adapter on it: PEFT's matching, its pre-flight and ours."""
    wanted = replace(config, task_type=TASKS[bare.task].peft)
    try:
        with loading():  # no β yet
            return get_peft_model(bare.model, wanted)  # pyright: ignore[reportArgumentType]
    except NoMatchingPeftModuleError as error:
        raise LoramError(
            f"target_modules={config.target_modules!r} matches no layer of the model: expected "
            "all-linear, names of its linear layers such as q_proj,v_proj, or a regular expression "
            "for whole names"
        ) from error


def _targets(model: Any, bare: Skeleton, config: LoraConfig) -> list[_Target]:
    """The adapter's layers in the order of the files, or one error with all that is wrong."""
    found: list[_Target] = []
    problems: list[str] = []
    for path, layer in lora_layers(model, _ADAPTER):
        site = site_of(layer)
        kind = known(site)
        weight = f"{_own(path)}.{kind.weight}"
        entry = bare.places.get(weight)
        if entry is None:
            problems.append(f"{_own(path)}: {_missing(weight, bare)}")
            continue
        target = _Target(path, layer, kind, site, layer.r[_ADAPTER], entry)
        problem = _problem(target)
        if problem is None:
            found.append(target)
        else:
            problems.append(f"{target.name}: {problem}")
    report(config.init_lora_weights, problems)
    order: dict[int, int] = {id(entry): i for i, entry in enumerate(bare.places.values())}
    return sorted(found, key=lambda target: order[id(target.entry)])


def _own(name: str) -> str:
    """A module's name in the model itself."""
    return name.removeprefix(_PREFIX).replace(".base_layer", "")


def _missing(weight: str, bare: Skeleton) -> str:
    if weight in bare.converted:
        return (
            f"{weight} is made of other tensors when the checkpoint is loaded: leave it out of "
            "target_modules, or load the model and use get_peft_model"
        )
    return (
        f"the checkpoint has no tensor for {weight}: it is incomplete, or of another model "
        f"(read as {type(bare.model).__name__})"
    )


def _problem(target: _Target) -> str | None:
    stored = tuple(target.kind.parameter(target.site).shape)
    entry = target.entry
    if not entry.is_float:
        return f"{entry.name} is {entry.dtype}: expected unquantised weights"
    if entry.shape != stored:
        return f"expected {entry.name} of shape {stored} by config.json, got {entry.shape}"
    try:
        check_rank(*target.shape, target.r)
    except ValueError as error:
        return str(error)
    return None


def _betas(
    targets: list[_Target], init: LoramInit, config: LoraConfig, tick: Callable[[int], None]
) -> list[float]:
    """β of every target, or one error with all that is wrong."""
    # The spectrum and the variance are no sums over pieces: for them one tensor is in memory, and
    # all threads work on it.
    whole = init.gain == "spectral" or init.statistic == "var"
    weigh = partial(_of_whole if whole else _of_pieces, init=init)
    workers = 1 if whole else torch.get_num_threads()
    betas: list[float] = []
    problems: list[str] = []
    with nullcontext() if whole else one_thread(), ThreadPoolExecutor(workers) as pool:
        try:
            for target, b in zip(targets, pool.map(weigh, targets), strict=True):
                if isinstance(b, str):
                    problems.append(f"{target.name}: {b}")
                else:
                    betas.append(b)
                tick(1)
        finally:  # damaged, or interrupted: the rest is not worth reading
            pool.shutdown(cancel_futures=True)
    report(config.init_lora_weights, problems)
    return betas


def _or_why_not(weigh: Callable[..., float]) -> Callable[..., float | str]:
    """β, or what is wrong with the weight. A checkpoint that can't be read is another matter."""

    @wraps(weigh)
    def told(target: _Target, init: LoramInit) -> float | str:
        try:
            return weigh(target, init)
        except CheckpointError:
            raise
        except (ValueError, TypeError) as error:
            return str(error)

    return told


@_or_why_not
def _of_pieces(target: _Target, init: LoramInit) -> float:
    mean = MeanSquare(math.prod(target.entry.shape), target.dtype)
    for piece in pieces(target.entry):
        mean.add(piece.to(target.dtype))
    return beta_for_magnitude(mean.value(), *target.shape, target.r, **_options(init))


@_or_why_not
def _of_whole(target: _Target, init: LoramInit) -> float:
    W = target.kind.matrix(target.site, read_whole(target.entry).to(target.dtype))
    return beta(W, target.r, **_options(init))


def _options(init: LoramInit) -> dict[str, Any]:
    return {name: getattr(init, name) for name in ("gain", "basis", "statistic", "seed")}


def _state(
    model: Any, bare: Skeleton, targets: list[_Target], betas: list[float], init: LoramInit
) -> dict[str, Tensor]:
    """The model's state dict, with values for all that PEFT saves of it.

    dA and dB are zero. PEFT also saves the weights of embeddings that are adapted, and biases if
    the config says so: those are read from the files.
    """
    for target, b in zip(targets, betas, strict=True):
        record = BasisRecord(b, init.basis, init.seed, target.r, padding_of(target.layer))
        getattr(target.layer, ATTRIBUTE)[_ADAPTER] = record
    state: dict[str, Tensor] = dict(model.state_dict())
    for target in targets:
        for key in target.kind.place.keys(target.path, _ADAPTER):
            state[key] = torch.zeros_like(state[key], device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the save below says the same
        saved = get_peft_model_state_dict(model, state, _ADAPTER)
    empty = {id(value) for value in saved.values() if value.is_meta}
    for key in [key for key, value in state.items() if id(value) in empty]:
        entry = bare.places.get(_own(key))
        if entry is None or not entry.is_float:
            raise LoramError(
                f"PEFT would save {key} with this adapter, and the checkpoint has no such weights: "
                "load the model and use get_peft_model"
            )
        state[key] = read_whole(entry).to(state[key].dtype)
    return state
