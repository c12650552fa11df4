"""What a checkpoint must know of LoRAM beside the trained factors: β, the basis and its seed.

One `BasisRecord` per layer and adapter, in a `ModuleDict` called `lora_basis`, holding one int64[2]
buffer: PEFT's own save, load, `low_cpu_mem_usage` and hot-swap then carry it, and no cast of the
model to bfloat16 can round it. A⁰ and B⁰ are drawn again from it and never stored.
"""

import math
import struct
from typing import Any, cast
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from loram.bases import BASES
from loram.bases import basis as draw_basis
from loram.peft.errors import LoramError
from loram.product import Anchor

__all__ = ["ATTRIBUTE", "BasisRecord", "check_beta", "record_of"]

ATTRIBUTE = "lora_basis"

_NAMES = {entry.code: name for name, entry in BASES.items()}

# Φ by (basis, seed, side, width, columns, dtype, device). Layers of equal width share one tensor,
# which lives as long as one of them does.
_shared: WeakValueDictionary[tuple[Any, ...], Tensor] = WeakValueDictionary()


class BasisRecord(nn.Module):
    """β, basis and seed of one adapter on one layer.

    The buffer `weight` is int64[2]: the bits of β as float64, then
    `basis code | stored rank << 8 | seed << 32`. The rank is stored only for a basis that is not
    nested (ETF). β = 0 means plain LoRA; NaN means not loaded yet. On an embedding with a padding
    index, which never gets a gradient, that index is a third entry: A⁰ has a zero column there.

    β is read on the device, by the bits, at every forward pass and never cached: loading and
    hot-swapping write the buffer in place. The second word chooses tensors, so it is decoded on the
    host, when the record is made, loaded, or told to `refresh`.
    """

    weight: Tensor

    def __init__(
        self, beta: float, basis: str, seed: int, rank: int, padding: int | None = None
    ) -> None:
        super().__init__()
        entry = BASES[basis]
        stored_rank = 0 if entry.nested else rank
        words = [_bits(beta), entry.code | stored_rank << 8 | seed << 32]
        if padding is not None:
            words.append(padding)
        self.register_buffer("weight", torch.tensor(words, dtype=torch.int64))
        self.padding = padding
        self._drawn: dict[str, Tensor] = {}
        self.refresh()

    @classmethod
    def read(cls, code: Tensor) -> "BasisRecord":
        """The record that a checkpoint holds."""
        record = cls(0.0, "dst", 0, 0)
        record.weight = code.clone()
        record.refresh()
        return record

    def refresh(self) -> None:
        """Decode the basis again, after the buffer was written in place."""
        if self.weight.is_meta:
            return
        code = int(self.weight[1])
        name = _NAMES.get(code & 0xFF)
        if name is None:
            raise LoramError(
                f"this adapter uses basis code {code & 0xFF}, known are {sorted(_NAMES)}: it was "
                "written by a newer loram, or the file is damaged"
            )
        self.basis, self.stored_rank, self.seed = name, code >> 8 & 0xFFFFFF, code >> 32
        self.padding = int(self.weight[2]) if len(self.weight) > 2 else None
        self._drawn = {}

    @property
    def beta(self) -> float:
        """β on the host. Waits for the device: not for the forward pass."""
        return _float(int(self.weight[0]))

    def anchor(self, n: int, m: int, r: int, like: Tensor) -> Anchor:
        """B⁰ (n, r) and A⁰ (r, m) of a factor on `like`'s device, in float32 or its float64."""
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        # Apple's GPUs have no float64; there the bits are read on the host.
        bits = self.weight.cpu() if like.device.type == "mps" else self.weight
        return Anchor(
            beta=bits[:1].view(torch.float64)[0],
            phi_out=self._phi("out", n, r, dtype, like.device),
            phi_in=self._phi("in", m, r, dtype, like.device),
        )

    def _phi(self, side: str, n: int, r: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        phi = self._drawn.get(side)
        if phi is not None and phi.shape == (n, r) and phi.dtype == dtype and phi.device == device:
            return phi
        padding = self.padding if side == "in" else None
        key = (self.basis, self.seed, side, n, r, self.stored_rank, padding, dtype, device)
        phi = _shared.get(key)
        if phi is None:
            columns = self.stored_rank or r
            phi = draw_basis(
                self.basis, n, columns, seed=self.seed, side=int(side == "in"), dtype=dtype
            ).to(device)
            if columns < r:  # a slot padded for hot-swapping: the extra columns do nothing
                phi = nn.functional.pad(phi, (0, r - columns))
            if padding is not None:
                phi[padding] = 0
            _shared[key] = phi
        self._drawn[side] = phi
        return phi

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.refresh()

    def __getstate__(self) -> dict[str, Any]:
        # A copy or a pickle draws the basis again.
        return {**self.__dict__, "_drawn": {}}

    def extra_repr(self) -> str:
        """β, basis and seed, as `print(model)` shows them."""
        seed = "" if self.basis == "dst" else f", seed={self.seed}"
        return "meta" if self.weight.is_meta else f"beta={self.beta:.4g}, basis={self.basis}{seed}"


def record_of(layer: nn.Module, adapter: str) -> BasisRecord | None:
    """The record of a LoRAM adapter on a layer, either form; None for any other adapter."""
    records = getattr(layer, ATTRIBUTE, None)
    if not isinstance(records, nn.ModuleDict) or adapter not in records:
        return None
    return cast(BasisRecord, records[adapter])


def check_beta(weight: Tensor, where: str) -> float:
    """β of a stored buffer, for what reads checkpoints.

    Raises:
        LoramError: not an int64[2] or [3], or a β that no scheme gives.
    """
    if weight.dtype != torch.int64 or weight.shape not in ((2,), (3,)):
        raise LoramError(
            f"{where}: expected an int64 tensor of 2 or 3 entries, got {weight.dtype} "
            f"{tuple(weight.shape)}: the adapter file is damaged, or was cast by another tool"
        )
    beta = _float(int(weight[0]))
    if not (math.isfinite(beta) and beta >= 0):
        raise LoramError(f"{where}: β = {beta} cannot be: the adapter file is damaged")
    return beta


def _bits(value: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


def _float(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<q", bits))[0])
