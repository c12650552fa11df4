"""What is timed on one layer's weight: its floors, LoRAM's two forms, and PEFT's methods."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from loram.bench.errors import BenchError
from loram.bench.paired import Work
from loram.bench.subject import row
from loram.magnitude import nu
from loram.peft.alone import basis_of, start_alone, start_calibrated

__all__ = ["FLOORS", "LORAM", "PEERS", "floor_of", "layer_works", "weight"]

TOKENS = 256  # of the calibration batch
WIDE_RANK = 64  # from here on the residual form's floor is a product, not a sum

FLOORS = ("read", "norm", "norm, float32 sums", "norm + add", "norm + addmm")
LORAM = ("nu", "loram", "loram-residual", "bases, once a width")
PEERS = (
    *("lora", "orthogonal", "olora", "pissa-niter-4", "pissa-niter-16", "lora-ga"),
    *("pissa", "corda-ipm"),
)
"""Rows of the methods table, and two of PiSSA's fast SVD."""

_SLOW = ("pissa", "corda-ipm")
_CALIBRATED = ("lora-ga", "corda-ipm")
_NO_FLOOR = ("read", "lora", "orthogonal", "bases, once a width")  # W is not read
# What writes W too, beside reading it.
_WRITES = ("loram-residual", "olora", "pissa-niter-4", "pissa-niter-16", "lora-ga", *_SLOW)


class Layer(NamedTuple):
    """A weight W (n, m) and what its works need beside it."""

    W: Tensor
    r: int


def weight(shape: tuple[int, int], dtype: str) -> Tensor:
    """Random W (n, m) of a language model's magnitude, the same for a shape."""
    generator = torch.Generator().manual_seed(0)
    return (0.02 * torch.randn(shape, generator=generator)).to(getattr(torch, dtype))


def floor_of(work: str, r: int) -> str | None:
    """The floor of a row: one pass of the norm, and one that writes if the row rewrites W."""
    if work in _NO_FLOOR:
        return None
    if work in FLOORS:
        return "read"
    if work not in _WRITES:
        return "norm"
    return "norm + addmm" if r >= WIDE_RANK else "norm + add"


def layer_works(
    W: Tensor,
    r: int,
    names: Iterable[str] | None = None,
    *,
    floors: Iterable[str] = FLOORS,
    slow: bool = False,
) -> dict[str, Work]:
    """The works on a weight, floors first.

    Args:
        W: (n, m). What changes its weight gets a fresh copy, which is not timed.
        r: rank.
        names: rows beside the floors; by default all, the slow ones only if `slow`.
        floors: of `FLOORS`; `norm + add` holds a second matrix of W's size.
        slow: exact SVDs.

    Raises:
        BenchError: an unknown name, or a rank that W does not have.
    """
    if names is None:
        names = [name for name in (*LORAM, *PEERS) if slow or name not in _SLOW]
    wanted = list(dict.fromkeys((*floors, *names)))
    for name in wanted:
        if name not in (*FLOORS, *LORAM, *PEERS):
            known = ", ".join((*FLOORS, *LORAM, *PEERS))
            raise BenchError(f"no row {name!r}: expected {known}")
    if r > min(W.shape):
        raise BenchError(
            f"expected --rank of at most {min(W.shape)}, the smaller side of {tuple(W.shape)}; "
            f"got {r}"
        )
    layer = Layer(W, r)
    return {name: _MADE[name](layer) if name in _MADE else _peer(layer, name) for name in wanted}


def _read(layer: Layer) -> Work:
    W = layer.W
    words = W.view(-1).view(torch.int64) if W.nbytes % 8 == 0 else W
    return Work(lambda: words.sum())


def _norm(layer: Layer) -> Work:
    return Work(lambda: layer.W.norm())


def _wide_norm(layer: Layer) -> Work:
    return Work(lambda: torch.linalg.vector_norm(layer.W, dtype=torch.float32))


def _add(layer: Layer) -> Work:
    n, m = layer.W.shape
    dense = weight((n, m), str(layer.W.dtype).removeprefix("torch.")).mul_(1e-4)
    return Work(lambda W: (W.norm(), W.add_(dense)), _copies(layer.W))


def _addmm(layer: Layer) -> Work:
    n, m = layer.W.shape
    left = (1e-6 * torch.randn(n, layer.r)).to(layer.W)
    right = torch.randn(layer.r, m).to(layer.W)
    return Work(lambda W: (W.norm(), W.addmm_(left, right)), _copies(layer.W))


def _copies(W: Tensor) -> Callable[[], tuple[Any, ...]]:
    return lambda: (W.clone(),)


def _nu(layer: Layer) -> Work:
    return Work(lambda: nu(layer.W))


def _loram(layer: Layer) -> Work:
    """Reads W; the bases are drawn by the first forward pass."""
    return Work(lambda: start_alone(layer.W, "loram", layer.r))


def _residual(layer: Layer) -> Work:
    """With the bases that the layers before have drawn: of a model's layers all but the first."""
    held = basis_of(start_alone(layer.W.clone(), "loram_residual", layer.r))

    def run(W: Tensor) -> object:
        return held, start_alone(W, "loram_residual", layer.r)

    return Work(run, _copies(layer.W))


def _bases(layer: Layer) -> Work:
    n, m = layer.W.shape
    like = torch.empty(0)
    record = basis_of(start_alone(layer.W, "loram", layer.r))
    assert record is not None

    def draw() -> object:
        record.refresh()  # forgets what it has drawn, which nothing else holds
        return record.anchor(n, m, layer.r, like)

    return Work(draw)


def _peer(layer: Layer, name: str) -> Work:
    init: Any = row(name).init
    once = name in _SLOW
    prepare = _copies(layer.W) if name in _WRITES else lambda: (layer.W,)
    if name in _CALIBRATED:
        generator = torch.Generator().manual_seed(1)
        X = torch.randn(1, TOKENS, layer.W.shape[1], generator=generator).to(layer.W.dtype)
        return Work(lambda W: start_calibrated(W, init, layer.r, X), prepare, once)
    return Work(lambda W: start_alone(W, init, layer.r), prepare, once)


_MADE: dict[str, Callable[[Layer], Work]] = {
    "read": _read,
    "norm": _norm,
    "norm, float32 sums": _wide_norm,
    "norm + add": _add,
    "norm + addmm": _addmm,
    "nu": _nu,
    "loram": _loram,
    "loram-residual": _residual,
    "bases, once a width": _bases,
}
