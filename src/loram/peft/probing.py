"""The factors of an adapter as a probe reads them: layers of one shape stacked together."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from loram.peft.kinds import kind_of, site_of
from loram.peft.layers import (
    LoraModule,
    active_adapter,
    base_weight,
    deviations,
    factor_matrices,
    factor_weights,
    lora_layers,
    record_of,
)

__all__ = ["Family", "Start", "Trained", "families"]


class Trained(NamedTuple):
    """What trains of the layers of a family: the factors, or their deviations.

    Attributes:
        B: (layers, n, r).
        A: (layers, r, m).
    """

    B: Tensor
    A: Tensor


class Start(NamedTuple):
    """Where the factors of the layers of a family began: B⁰ = scale · B, A⁰ = scale · A.

    Attributes:
        B: (layers, n, r), or (1, n, r) where LoRAM's layers share a basis.
        A: (layers, r, m), or (1, r, m).
        scale: (layers,); β of LoRAM's layers, else 1.
        held: whether what trains holds the start: then the deviations are B − B⁰ and A − A⁰, and
            the base lacks sB⁰A⁰ (or never had it); else they are what trains.
    """

    B: Tensor
    A: Tensor
    scale: Tensor
    held: bool


@dataclass
class Family:
    """Layers whose factors have one shape.

    Attributes:
        names: of the layers, without PEFT's prefix; `layer[e]` for expert e of a stack.
        layers: the PEFT layers. One may be a stack, which counts as as many as it has experts.
        adapter: its name.
        held: for layers that are not in LoRAM's deviation form, B⁰ (layers, n, r) and
            A⁰ (layers, r, m) as they were at the start.
    """

    names: list[str]
    layers: list[LoraModule]
    adapter: str
    held: Trained | None

    def trained(self) -> Trained:
        """Copies of what trains now, in float32, or in the factors' float64, on their device."""
        return _stacked(self.layers, self.adapter)

    def start(self) -> Start:
        """Where the factors began, read anew: loading and hot-swapping write β in place."""
        if self.held is not None:
            return Start(*self.held, scale=self.held.B.new_ones(len(self.names)), held=True)
        anchors = [deviations(layer, self.adapter) for layer in self.layers]
        first = anchors[0]
        assert first is not None
        beta = torch.stack([parts.anchor.beta for parts in anchors if parts])
        beta = beta.repeat_interleave(self._each)
        basis = first.anchor
        return Start(basis.phi_out[None], basis.phi_in.T[None], scale=beta, held=False)

    def scaling(self) -> Tensor:
        """The factor s of each layer (layers,), float64, on the CPU."""
        values = [float(layer.scaling[self.adapter]) for layer in self.layers]
        return torch.tensor(values, dtype=torch.float64).repeat_interleave(self._each)

    def gradient_norms(self) -> Tensor | None:
        """‖∇A‖ and ‖∇B‖ (layers, 2) on the factors' device; None if any has no gradient.

        Of the experts of a stack together: each shows that of its stack.
        """
        pairs = [factor_weights(layer, self.adapter) for layer in self.layers]
        found = [weight.grad for pair in pairs for weight in pair]
        grads = [grad for grad in found if grad is not None]
        if len(grads) < len(found):
            return None
        # PyTorch's own clipping takes all norms at once by the same function.
        norms: Any = torch._foreach_norm(grads)  # pyright: ignore[reportPrivateUsage]
        return torch.stack(norms).view(-1, 2).repeat_interleave(self._each, 0)

    def start_weights(self) -> Iterator[tuple[str, Tensor]]:
        """(name, W (n, m)): the weights that the updates are added to, one layer at a time.

        W is the base's weight, plus sB⁰A⁰ if the factors hold their start: the pretrained weight of
        a method that keeps the base or rewrites it; of LoRA-One, the weight after its first step.
        In the base's dtype, or in float32 at least where B⁰A⁰ was added. Experts one by one.
        """
        each, scaling = self._each, self.scaling().tolist()
        for i, layer in enumerate(self.layers):
            W = base_weight(layer).detach()
            for e, matrix in enumerate(W if W.ndim == 3 else W[None]):
                at = i * each + e
                yield self.names[at], self._started(matrix, at, scaling[at])

    def _started(self, W: Tensor, at: int, scaling: float) -> Tensor:
        if self.held is None or not self.held.B[at].any():
            return W
        B0, A0 = self.held.B[at], self.held.A[at]
        return W.to(torch.promote_types(W.dtype, B0.dtype)) + scaling * (B0 @ A0)

    @property
    def _each(self) -> int:
        """How many matrices a layer has: its experts, or one."""
        return len(self.names) // len(self.layers)


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
        held = _held(layers, name) if basis is None else None
        found.append(Family(names, layers, name, held))
    return found


def _held(layers: list[LoraModule], adapter: str) -> Trained:
    """B⁰ and A⁰ of layers that hold absolute factors: from LoRAM's record, else as they are now."""
    B, A = _stacked(layers, adapter)
    each = len(A) // len(layers)
    for i, layer in enumerate(layers):
        record = record_of(layer, adapter)
        if record is not None:
            anchor = record.anchor(B.shape[1], A.shape[2], A.shape[1], like=A)
            rows = slice(i * each, (i + 1) * each)
            B[rows], A[rows] = anchor.B0, anchor.A0
    return Trained(B, A)


def _stacked(layers: list[LoraModule], adapter: str) -> Trained:
    """A (layers, r, m) and B (layers, n, r), copies; the experts of a stack one by one."""
    pairs = [factor_matrices(layer, adapter) for layer in layers]
    dtype = torch.promote_types(pairs[0][0].dtype, torch.float32)
    A = torch.stack([a.detach() for a, _ in pairs]).to(dtype)
    B = torch.stack([b.detach() for _, b in pairs]).to(dtype)
    return Trained(B.reshape(-1, *B.shape[-2:]), A.reshape(-1, *A.shape[-2:]))
