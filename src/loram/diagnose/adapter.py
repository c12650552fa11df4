"""A saved adapter: how large its factors and its update are, and how much of its rank is used.

Read from the adapter's file alone; the base is not needed, since LoRAM's basis and β are in the
file's record.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from loram.diagnose.errors import DiagnoseError
from loram.diagnose.names import depth_of, kind_of, layer_of
from loram.magnitude import nu
from loram.peft.stored import StoredLayer, read_lora, stored_layer, stored_names
from loram.probe.lowrank import effective_rank, stable_rank
from loram.spectrum import rank_for

__all__ = ["KEPT", "Adapted", "diagnose_adapter"]

KEPT = 0.99
"""Share of ‖W_LoRA‖²_F that `Adapted.rank_kept` directions hold."""


@dataclass(frozen=True, slots=True)
class Adapted:
    """One layer of an adapter.

    Attributes:
        name: of the module, `layer[e]` for expert e of a stack.
        kind: see `loram.diagnose.names.kind_of`.
        depth: its block.
        shape: (n, m) of W.
        rank: r.
        scaling: s.
        beta: LoRAM's β; None for any other adapter.
        nu_A: ν[A], LoRAM's basis included.
        nu_B: ν[B].
        nu_update: ν[W_LoRA].
        stable_rank: ‖W_LoRA‖²_F / ‖W_LoRA‖²₂; None where the update is zero or not finite.
        effective_rank: exp of the entropy of its singular values.
        rank_kept: the smallest rank that keeps `KEPT` of ‖W_LoRA‖²_F.
    """

    name: str
    kind: str
    depth: int
    shape: tuple[int, int]
    rank: int
    scaling: float
    beta: float | None
    nu_A: float
    nu_B: float
    nu_update: float
    stable_rank: float | None
    effective_rank: float | None
    rank_kept: int | None

    @property
    def finite(self) -> bool:
        """Whether there is no NaN and no Inf."""
        return all(map(math.isfinite, (self.nu_A, self.nu_B, self.nu_update)))


def diagnose_adapter(folder: Path) -> list[Adapted]:
    """Measure every layer of a PEFT LoRA adapter, LoRAM's (either form) or any other.

    An adapter that rewrote its base, as PiSSA saved without conversion, has its whole product as
    W_LoRA: its file does not say where it started.

    Args:
        folder: with adapter_config.json and adapter_model.safetensors.

    Raises:
        LoramError: no LoRA adapter there, or a damaged one.
        DiagnoseError: pickled weights, or no layer in the file.
    """
    if (folder / "adapter_model.bin").exists() and not (
        folder / "adapter_model.safetensors"
    ).exists():
        raise DiagnoseError(
            f"{folder / 'adapter_model.bin'}: pickles are not read, since opening one can run any "
            "code: expected adapter_model.safetensors. Save it again with a current PEFT"
        )
    config, tensors = read_lora(folder)
    names = stored_names(tensors)
    if not names:
        raise DiagnoseError(
            f"{folder}: no LoRA layer among the adapter's {len(tensors)} tensors: expected names "
            "that end in lora_A.weight and lora_B.weight"
        )
    stored = (stored_layer(name, config, tensors) for name in names)
    layers = [layer for each in stored for layer in _layers(each)]
    return sorted(layers, key=lambda layer: layer.depth)


def _layers(stored: StoredLayer) -> Iterator[Adapted]:
    A, B = stored.factors
    left, right = stored.update()
    name = layer_of(stored.name)
    if A.ndim == 2:
        yield _layer(name, stored, A, B, left, right)
        return
    for e in range(len(A)):
        yield _layer(f"{name}[{e}]", stored, A[e], B[e], left[e], right[e])


def _layer(
    name: str, stored: StoredLayer, A: Tensor, B: Tensor, left: Tensor, right: Tensor
) -> Adapted:
    finite = bool(left.isfinite().all()) and bool(right.isfinite().all())
    sigma = _singular_values(left, right) if finite else left.new_full((1,), math.nan)
    n, m = B.shape[0], A.shape[1]
    update = float(sigma.square().sum()) / (n * m)
    moved = finite and update > 0
    module = name.partition("[")[0]
    return Adapted(
        name=name,
        kind=kind_of(module),
        depth=depth_of(module),
        shape=(n, m),
        rank=A.shape[0],
        scaling=stored.scaling,
        beta=None if stored.anchor is None else float(stored.anchor.beta),
        nu_A=nu(A),
        nu_B=nu(B),
        nu_update=update,
        stable_rank=float(stable_rank(sigma)) if moved else None,
        effective_rank=float(effective_rank(sigma)) if moved else None,
        rank_kept=rank_for(sigma, KEPT) if moved else None,
    )


def _singular_values(left: Tensor, right: Tensor) -> Tensor:
    """Of left (n, k) @ right (k, m), descending, without forming it."""
    R_left, R_right = torch.linalg.qr(left).R, torch.linalg.qr(right.T).R
    return torch.linalg.svdvals(R_left @ R_right.T)
