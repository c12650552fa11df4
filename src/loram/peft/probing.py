"""The factors of an adapter as a probe reads them: layers of one shape stacked together."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from loram.peft.kinds import kind_of, site_of
from loram.peft.layers import (
    LoraModule,
    active_adapter,
    deviations,
    factor_matrices,
    lora_layers,
    record_of,
)

__all__ = ["Family", "families"]


@dataclass
class Family:
    """Layers whose factors have one shape.

    Attributes:
        names: of the layers, without PEFT's prefix; `layer[e]` for expert e of a stack.
        layers: the PEFT layers. One may be a stack, which counts as as many as it has experts.
        adapter: its name.
        start: for layers that are not in LoRAM's deviation form, B⁰ (layers, n, r) and
            A⁰ (layers, r, m) as they were at the start.
    """

    names: list[str]
    layers: list[LoraModule]
    adapter: str
    start: tuple[Tensor, Tensor] | None

    def stack(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """dB (layers, n, r), dA (layers, r, m), B⁰, A⁰ of the same shapes or broadcasting, and s.

        In float32, or in the factors' float64, on their device; s (layers,) in float64.
        """
        A, B = _stacked(self.layers, self.adapter)
        each = len(self.names) // len(self.layers)
        scaling = torch.tensor(
            [float(layer.scaling[self.adapter]) for layer in self.layers],
            dtype=torch.float64,
            device=A.device,
        ).repeat_interleave(each)
        if self.start is not None:
            B0, A0 = self.start
            return B - B0, A - A0, B0, A0, scaling
        anchors = [deviations(layer, self.adapter) for layer in self.layers]
        beta = torch.stack([parts.anchor.beta for parts in anchors if parts]).to(A.dtype)
        beta = beta.repeat_interleave(each)
        first = anchors[0]
        assert first is not None
        # One basis for all layers of a shape, each at its own scale.
        B0 = beta[:, None, None] * first.anchor.phi_out
        A0 = beta[:, None, None] * first.anchor.phi_in.T
        return B, A, B0, A0, scaling


def families(model: nn.Module, adapter: str | None) -> list[Family]:
    """The adapter's layers by the shape of their matrices, in the order of the model.

    Raises:
        ValueError: the model has no LoRA layer of that adapter.
    """
    name = adapter if adapter is not None else active_adapter(model)
    groups: dict[Any, tuple[list[str], list[LoraModule]]] = {}
    for path, layer in lora_layers(model, name):
        if kind_of(site_of(layer)) is None:
            continue  # plain LoRA goes on more
        A, B = factor_matrices(layer, name)
        parts = deviations(layer, name)
        # Layers of one family share their basis.
        basis = None if parts is None else (id(parts.anchor.phi_out), id(parts.anchor.phi_in))
        names, layers = groups.setdefault((B.shape, A.shape, A.device, basis), ([], []))
        path = path.removeprefix("base_model.model.")
        names += [path] if A.ndim == 2 else [f"{path}[{e}]" for e in range(len(A))]
        layers.append(layer)
    if not groups:
        raise ValueError(f"the model has no LoRA layer with an adapter {name!r}")
    found: list[Family] = []
    for (_, _, _, basis), (names, layers) in groups.items():
        start = None
        if basis is None:
            start = _start(layers, name)
        found.append(Family(names, layers, name, start))
    return found


def _start(layers: list[LoraModule], adapter: str) -> tuple[Tensor, Tensor]:
    """B⁰ and A⁰ of layers that hold absolute factors: from LoRAM's record, else as they are now."""
    A, B = _stacked(layers, adapter)
    each = len(A) // len(layers)
    for i, layer in enumerate(layers):
        record = record_of(layer, adapter)
        if record is not None:
            anchor = record.anchor(B.shape[1], A.shape[2], A.shape[1], like=A)
            rows = slice(i * each, (i + 1) * each)
            B[rows], A[rows] = anchor.B0, anchor.A0
    return B, A


def _stacked(layers: list[LoraModule], adapter: str) -> tuple[Tensor, Tensor]:
    """A (layers, r, m) and B (layers, n, r), copies; the experts of a stack one by one."""
    pairs = [factor_matrices(layer, adapter) for layer in layers]
    dtype = torch.promote_types(pairs[0][0].dtype, torch.float32)
    A = torch.stack([a.detach() for a, _ in pairs]).to(dtype)
    B = torch.stack([b.detach() for _, b in pairs]).to(dtype)
    return A.reshape(-1, *A.shape[-2:]), B.reshape(-1, *B.shape[-2:])
