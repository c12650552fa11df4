"""A checkpoint's layers as LoRAM sees them: ν[W], gains, β; read once, without the model.

>>> diagnose_weights([Path("model.safetensors")], rank=16, spectrum="randomised")
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from loram.checkpoints import Entry, entries
from loram.diagnose.errors import DiagnoseError
from loram.diagnose.names import depth_of, is_target, kind_of, layer_of
from loram.diagnose.tensors import read
from loram.magnitude import log_gain, nu, spectral_gain
from loram.schemes.loram import beta_for_product
from loram.spectrum import GainBounds, gain_bounds

__all__ = ["SPECTRA", "Layer", "Spectrum", "Unread", "Weights", "diagnose_weights"]

Spectrum = Literal["none", "exact", "randomised"]
"""Whether to measure Q[r], and by which SVD."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One linear weight.

    Attributes:
        name: of the module.
        kind: see `loram.diagnose.names.kind_of`.
        depth: its block.
        shape: as stored; nothing here depends on which side is the output.
        dtype: as stored.
        nu: ν[W]; NaN or infinite where W is.
        constant: all entries are equal.
        log_gain: log r / log min(n, m), or None where r > min(n, m).
        beta: LoRAM's β on the DST basis, or None where there is none.
        gain: bounds of Q[r], equal if exact; None if not measured, or undefined.
    """

    name: str
    kind: str
    depth: int
    shape: tuple[int, int]
    dtype: str
    nu: float
    constant: bool
    log_gain: float | None
    beta: float | None
    gain: GainBounds | None

    @property
    def finite(self) -> bool:
        """Whether W has no NaN and no Inf."""
        return math.isfinite(self.nu)


class Unread(NamedTuple):
    """A linear layer whose file holds codes, not weights."""

    name: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Weights:
    """All linear layers of a checkpoint.

    Attributes:
        rank: r of gains and β.
        spectrum: how Q[r] was measured.
        layers: in the order of depth, then of the file.
        unread: quantised ones.
    """

    rank: int
    spectrum: Spectrum
    layers: tuple[Layer, ...]
    unread: tuple[Unread, ...]


def _exact(W: Tensor, r: int) -> GainBounds:
    gain = spectral_gain(W, r)
    return GainBounds(gain, gain)


SPECTRA: Mapping[Spectrum, Callable[[Tensor, int], GainBounds] | None] = MappingProxyType(
    {"none": None, "exact": _exact, "randomised": gain_bounds}
)
"""The ways to Q[r]."""


def diagnose_weights(
    files: Sequence[Path],
    *,
    rank: int = 16,
    spectrum: Spectrum = "none",
    everything: bool = False,
    begin: Callable[[int], Callable[[int], None]] = lambda total: lambda done: None,
) -> Weights:
    """Measure every linear layer of a checkpoint.

    Args:
        files: safetensors files.
        rank: r ≥ 1.
        spectrum: `none` reads each weight once; `exact` and `randomised` also hold one in memory.
        everything: embeddings and heads too.
        begin: told the number of layers, gives what is told of each one done.

    Raises:
        CheckpointError: a damaged file.
        DiagnoseError: no linear layer, or a rank or spectrum that can't be.
    """
    if rank < 1:
        raise DiagnoseError(f"expected a rank ≥ 1, got {rank}")
    if spectrum not in SPECTRA:
        raise DiagnoseError(f"unknown spectrum {spectrum!r}: expected {', '.join(SPECTRA)}")
    held = [entry for file in files for entry in entries(file)]
    wanted = [e for e in held if is_target(e.name, e.shape, everything=everything)]
    unread = [
        Unread(layer_of(e.name).removesuffix(".qweight"), e.dtype)
        for e in held
        if _is_code(e) or (e in wanted and not e.is_float)
    ]
    wanted = [entry for entry in wanted if entry.is_float]
    if not wanted and not unread:
        raise DiagnoseError(
            f"{files[0]}: no linear layer among {len(held)} tensors: expected 2-D floating-point "
            "tensors whose names end in .weight"
        )
    measure = SPECTRA[spectrum]
    layers: list[Layer] = []
    tick = begin(len(wanted))

    def use(entry: Entry, W: Tensor) -> None:
        layers.append(_layer(entry, W, rank, measure))
        tick(1)

    read(wanted, use)
    layers.sort(key=lambda layer: layer.depth)
    return Weights(rank, spectrum, tuple(layers), tuple(unread))


def _is_code(entry: Entry) -> bool:
    """A quantised weight by the names and shapes of bitsandbytes, GPTQ and AWQ."""
    packed = entry.name.endswith(".weight") and len(entry.shape) == 2 and entry.shape[1] == 1
    return entry.name.endswith(".qweight") or (packed and entry.dtype == "U8")


def _layer(
    entry: Entry, W: Tensor, r: int, measure: Callable[[Tensor, int], GainBounds] | None
) -> Layer:
    n, m = W.shape
    magnitude = nu(W)
    usable = math.isfinite(magnitude) and magnitude > 0 and r <= min(n, m)
    gain = log_gain(n, m, r) if r <= min(n, m) else None
    product = gain * magnitude if usable and gain is not None else 0.0
    name = layer_of(entry.name)
    return Layer(
        name=name,
        kind=kind_of(name),
        depth=depth_of(name),
        shape=(n, m),
        dtype=entry.dtype,
        nu=magnitude,
        constant=_is_constant(W),
        log_gain=gain,
        beta=beta_for_product(product, n, m, r) if product > 0 else None,
        gain=measure(W, r) if usable and measure is not None else None,
    )


def _is_constant(W: Tensor) -> bool:
    first = W[0, 0]
    # A few entries tell nearly always; the rest is read only where they don't.
    return bool((W[0] == first).all()) and all(
        bool(torch.all(rows == first)) for rows in W.split(256)
    )
