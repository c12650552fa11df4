"""Where PEFT keeps the factors of a layer, and how they are read as A (r, m) and B (n, r)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ["CONVOLUTION", "EMBEDDING", "EXPERTS", "LINEAR", "Place"]

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the factors are.

    Attributes:
        names: of the two, as attributes of the layer and in a state dict.
        modules: whether they are modules that hold a `weight`, or parameters themselves.
        read: (A, B, r) as PEFT shapes them → A (r, m) and B (n, r), or (experts, r, m) and
            (experts, n, r) for a stack. Differentiable.
        write: the reverse, to the shapes of PEFT's (A, B) but for the rank: (A (R, m), B (n, R),
            PEFT's A, PEFT's B) → A, B as PEFT shapes them at rank R.
    """

    names: tuple[str, str]
    modules: bool
    read: Callable[[Tensor, Tensor, int], Pair]
    write: Callable[[Tensor, Tensor, Tensor, Tensor], Pair]

    def parameters(self, layer: Any, adapter: str) -> tuple[nn.Parameter, nn.Parameter]:
        """A and B, in PEFT's shapes: what trains."""
        a, b = (getattr(layer, name)[adapter] for name in self.names)
        return (a.weight, b.weight) if self.modules else (a, b)

    def matrices(self, layer: Any, adapter: str) -> Pair:
        """A (r, m) and B (n, r); each with a leading (experts,) for a stack."""
        return self.read(*self.parameters(layer, adapter), layer.r[adapter])

    def keys(self, layer: str, adapter: str = "") -> tuple[str, str]:
        """Names of A and B in the state dict of a model; in a file, which has no adapter's name."""
        middle = f".{adapter}" if adapter else ""
        end = ".weight" if self.modules else ""
        a, b = (f"{layer}.{name}{middle}{end}" for name in self.names)
        return a, b


def _read_convolution(A: Tensor, B: Tensor, r: int) -> Pair:
    return A.flatten(1), B.flatten(1)


def _write_convolution(A: Tensor, B: Tensor, like_A: Tensor, like_B: Tensor) -> Pair:
    return A.reshape(-1, *like_A.shape[1:]), B.reshape(*B.shape, *like_B.shape[2:])


def _read_experts(A: Tensor, B: Tensor, r: int) -> Pair:
    """PEFT keeps A by expert, then rank; and B by rank, then expert."""
    return A.view(-1, r, A.shape[1]), B.view(B.shape[0], r, -1).permute(2, 0, 1)


def _write_experts(A: Tensor, B: Tensor, like_A: Tensor, like_B: Tensor) -> Pair:
    return A.reshape(-1, A.shape[2]), B.permute(1, 2, 0).reshape(B.shape[1], -1)


def _as_read(A: Tensor, B: Tensor, r: int) -> Pair:
    return A, B


def _as_written(A: Tensor, B: Tensor, like_A: Tensor, like_B: Tensor) -> Pair:
    return A, B


LINEAR = Place(("lora_A", "lora_B"), True, _as_read, _as_written)
EMBEDDING = Place(("lora_embedding_A", "lora_embedding_B"), False, _as_read, _as_written)
CONVOLUTION = Place(("lora_A", "lora_B"), True, _read_convolution, _write_convolution)
EXPERTS = Place(("lora_A", "lora_B"), True, _read_experts, _write_experts)
