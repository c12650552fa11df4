"""`MagnitudeProbe`: what an adapter's layers are doing, by r×r algebra.

With the deviations dB = B − B⁰, dA = A − A⁰ and the step's own δB = B_t − B_{t−1}, δA likewise,

    W_LoRA = s [dB | B⁰] · [A ; dA]               ΔW_t = s [δB | B_{t−1}] · [A_t ; δA]

are products of terms of the size of what they add up to, so nothing cancels (arXiv 2507.06558,
eq. 1 and 3; `loram.magnitude.nu_deviation` is the plain form). Norms and singular values follow
from small Gram matrices: for the update in float64, whose small singular values need it; for the
step, of which only the norm is read, in the factors' own precision.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from loram.magnitude import nu
from loram.peft.probing import Family, Start, Trained, families
from loram.probe.lowrank import effective_rank, singular_values, squared_norm, stable_rank
from loram.probe.reading import LayerMagnitudes, LayerStep

__all__ = ["MagnitudeProbe"]

# Coefficients of the blocks (deviation, start).
_DEVIATION, _START, _NOW = (1, 0), (0, 1), (1, 1)

_CHUNK = 1 << 15  # entries of a side that are taken at a time on a CPU: 512 KiB for its blocks


class MagnitudeProbe:
    """Reads the magnitudes of every layer of an adapter: O((n + m)r²) a layer.

    Layers of equal shape are read together, so that a step costs a few dozen small products and a
    few transfers to the host. Keeps one copy of the factors for `step`, and one of their start for
    methods that hold it.

    Args:
        model: with its adapter at the start of training. For LoRAM the start is the basis, so the
            probe may be made at any time; for other methods the factors are copied here.
        adapter: its name; the active one by default.
        weights: whether to read ν[W] of every layer now, once: one pass over the weights.

    Attributes:
        weights: ν[W] by layer name; empty if not asked for. W is what the updates are added to: the
            pretrained weight, also where the method has taken its start out of the base (but for
            LoRA-One: the weight after its first step).

    Raises:
        ValueError: the model has no LoRA layer of that adapter.
    """

    def __init__(
        self, model: nn.Module, adapter: str | None = None, *, weights: bool = True
    ) -> None:
        self._families = families(model, adapter)
        self._before: list[Trained] | None = None
        self._gradients: list[Tensor | None] | None = None
        self.weights: dict[str, float] = {}
        if weights:
            for family in self._families:
                self.weights |= {name: nu(W) for name, W in family.start_weights()}

    @torch.no_grad()
    def read(self) -> dict[str, LayerMagnitudes]:
        """ν[A], ν[B], ν[W_LoRA] now, by layer name. Remembers nothing."""
        read: dict[str, LayerMagnitudes] = {}
        for family in self._families:
            grams = _grams(family, family.trained())
            values = torch.stack(_magnitudes(grams), 1).tolist()
            read |= {
                name: LayerMagnitudes(*row) for name, row in zip(family.names, values, strict=True)
            }
        return read

    @torch.no_grad()
    def mark(self) -> None:
        """Remember the factors as they are: the next `step` measures from here."""
        self._before = [family.trained() for family in self._families]

    @torch.no_grad()
    def note_gradients(self) -> None:
        """Take the gradients' norms now, for the next `step`: for loops that drop them earlier."""
        self._gradients = [family.gradient_norms() for family in self._families]

    @torch.no_grad()
    def step(self) -> dict[str, LayerStep]:
        """All that `LayerStep` holds, by layer name; remembers the factors as `mark` does.

        ν[ΔW_t] is of what was added since the last `step` or `mark`, so call it once a step of the
        optimiser, between `optimizer.step()` and `optimizer.zero_grad()`. Gradients are read as
        they are then: after clipping, and times a loss scaler's factor until it is taken out.
        """
        before, self._before = self._before, [family.trained() for family in self._families]
        gradients, self._gradients = self._gradients, None
        read: dict[str, LayerStep] = {}
        for i, family in enumerate(self._families):
            norms = family.gradient_norms() if gradients is None else gradients[i]
            earlier = None if before is None else before[i]
            for name, row in _rows(family, self._before[i], earlier, norms):
                read[name] = row
        return read

    @torch.no_grad()
    def updates(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """(name, W, W_LoRA), both (n, m), one layer at a time: dense, for what needs them so.

        W is the weight at the start, in the base's dtype or float32 at least; W_LoRA has float32,
        or the factors' float64.
        """
        for family in self._families:
            now, start = family.trained(), family.start()
            scaling = family.scaling().tolist()
            for i, (name, W) in enumerate(family.start_weights()):
                B, A, beta = now.B[i], now.A[i], start.scale[i].to(now.B.dtype)
                B0, A0 = (beta * part.expand(len(family.names), -1, -1)[i] for part in start[:2])
                dB, dA = (B - B0, A - A0) if start.held else (B, A)
                left = torch.cat([dB, B0.to(dB)], dim=1)
                right = torch.cat([A0.to(dA) + dA, dA], dim=0)
                yield name, W, scaling[i] * (left @ right)


class _Grams(NamedTuple):
    """Of deviation and start of each side, (layers, 2, r, 2, r) in float64 on the CPU."""

    B: Tensor
    A: Tensor
    shape: tuple[int, int]
    scaling: Tensor


def _grams(family: Family, now: Trained) -> _Grams:
    start = family.start()
    return _Grams(
        _gram(now.B, start.B, start, axis=2),
        _gram(now.A, start.A, start, axis=1),
        shape=(now.B.shape[1], now.A.shape[2]),
        scaling=family.scaling(),
    )


def _gram(now: Tensor, origin: Tensor, start: Start, axis: int) -> Tensor:
    """Gram matrix (layers, 2, r, 2, r) of deviation and start of one side, along `axis`."""
    origin = origin.expand_as(now)
    grams: list[Tensor] = []
    for some in _chunks(now):
        stored, first = now[some].double(), origin[some].double()
        blocks = torch.cat([stored - first if start.held else stored, first], dim=axis)
        grams.append(blocks.mT @ blocks if axis == 2 else blocks @ blocks.mT)
    gram = torch.cat(grams).cpu().unflatten(2, (2, -1)).unflatten(1, (2, -1))
    if not start.held:  # the start is its scale times what was taken
        scale = start.scale.double().cpu()[:, None, None, None]
        gram[:, 1] *= scale
        gram[:, :, :, 1] *= scale
    return gram


def _step_norm(now: Trained, before: Trained, start: Start) -> Tensor:
    """‖ΔW_t / s‖²_F (layers,), float64, on the CPU."""
    found: list[Tensor] = []
    for some in _chunks(max(now, key=Tensor.numel)):
        A, B1 = now.A[some], before.B[some]
        # Of what is stored, not of sums: near values subtract without rounding.
        dB, dA = now.B[some] - B1, A - before.A[some]
        if not start.held:
            scale = start.scale[some].to(A.dtype)[:, None, None]
            A, B1 = A + scale * start.A, B1 + scale * start.B
        left, right = torch.cat([dB, B1], dim=2), torch.cat([A, dA], dim=1)
        found.append(squared_norm((left.mT @ left).double(), (right @ right.mT).double()))
    return torch.cat(found).cpu()


def _chunks(stack: Tensor) -> list[slice]:
    """Rows of a stack that fit the caches in float64; all at once on an accelerator.

    On a CPU larger temporaries cost more in page faults than the products do.
    """
    layers, entries = len(stack), stack[0].numel()
    size = max(1, _CHUNK // entries) if stack.device.type == "cpu" else layers
    return [slice(i, i + size) for i in range(0, layers, size)]


def _combined(gram: Tensor, *rows: tuple[int, int]) -> Tensor:
    """Gram matrix (layers, kr, kr) of k combinations of the blocks, from that of the blocks."""
    C = torch.tensor(rows, dtype=gram.dtype)
    return torch.einsum("pi,lirjs,qj->lprqs", C, gram, C).flatten(3).flatten(1, 2)


def _magnitudes(grams: _Grams) -> list[Tensor]:
    """ν[A], ν[B], ν[W_LoRA], each (layers,)."""
    (n, m), r = grams.shape, grams.A.shape[2]
    left, right = _update(grams)
    now = torch.tensor(_NOW, dtype=torch.float64)
    A, B = (g.diagonal(dim1=2, dim2=4).sum(3) @ now @ now for g in (grams.A, grams.B))
    return [A / (r * m), B / (n * r), grams.scaling**2 * squared_norm(left, right) / (n * m)]


def _update(grams: _Grams) -> tuple[Tensor, Tensor]:
    """LᵀL and RRᵀ of W_LoRA = s [dB | B⁰] · [A ; dA], without s."""
    return _combined(grams.B, _DEVIATION, _START), _combined(grams.A, _NOW, _DEVIATION)


def _rows(
    family: Family, now: Trained, before: Trained | None, norms: Tensor | None
) -> list[tuple[str, LayerStep]]:
    grams = _grams(family, now)
    (n, m), unknown = grams.shape, torch.full((len(family.names),), torch.nan, dtype=torch.float64)
    step = grad_A = grad_B = unknown
    if before is not None:
        step = grams.scaling**2 * _step_norm(now, before, family.start()) / (n * m)
    if norms is not None:
        grad_A, grad_B = norms.double().cpu().unbind(1)
    sigma = singular_values(*_update(grams))
    ranks = [stable_rank(sigma), effective_rank(sigma)]
    columns = torch.stack([*_magnitudes(grams), step, grad_A, grad_B, *ranks], dim=1)
    return [
        (name, LayerStep(*row[:3], *(None if x != x else x for x in row[3:])))
        for name, row in zip(family.names, columns.tolist(), strict=True)
    ]
