"""Where PEFT keeps the factors of a layer, and how they are read as A (r, m) and B (n, r)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ["LINEAR", "Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the factors are.

    Attributes:
        names: of the two, as attributes of the layer and in a state dict.
        modules: whether they are modules that hold a `weight`, or parameters themselves.
        as_matrices: (A, B, r) as PEFT shapes them → A (r, m) and B (n, r), or with one more leading
            axis for a stack of experts. Differentiable.
    """

    names: tuple[str, str]
    modules: bool
    as_matrices: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]

    def parameters(self, layer: Any, adapter: str) -> tuple[nn.Parameter, nn.Parameter]:
        """A and B, in PEFT's shapes: what trains."""
        a, b = (getattr(layer, name)[adapter] for name in self.names)
        return (a.weight, b.weight) if self.modules else (a, b)

    def matrices(self, layer: Any, adapter: str) -> tuple[Tensor, Tensor]:
        """A (r, m) and B (n, r); each with a leading (experts,) for a stack."""
        return self.as_matrices(*self.parameters(layer, adapter), layer.r[adapter])

    def keys(self, layer: str, adapter: str) -> tuple[str, str]:
        """Names of A and B in the state dict of a model with an adapter."""
        end = ".weight" if self.modules else ""
        a, b = (f"{layer}.{name}.{adapter}{end}" for name in self.names)
        return a, b


LINEAR = Place(("lora_A", "lora_B"), True, lambda A, B, r: (A, B))
