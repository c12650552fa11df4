"""The same reading where there are no factors: full fine-tuning, against copies of the weights."""

import torch
from torch import Tensor, nn

from loram.magnitude import nu
from loram.probe.reading import LayerStep

__all__ = ["WeightProbe"]


class WeightProbe:
    """ν[ΔW] of the linear layers of a model whose weights train.

    Dearer than `MagnitudeProbe`: it keeps a copy of those weights on their device, a second one if
    steps are asked for, and goes over all of them at every reading. Read it every few steps.

    Args:
        model: at the start of training.
        steps: whether to read ν[ΔW_t] as well.

    Attributes:
        weights: ν[W] by layer name, at the start.

    Raises:
        ValueError: no linear layer of the model trains.
    """

    def __init__(self, model: nn.Module, *, steps: bool = False) -> None:
        # The output projection is often the embedding, and PEFT's all-linear leaves it out.
        get_head = getattr(model, "get_output_embeddings", None)
        head = None if get_head is None else get_head()
        self._layers = {
            name: module.weight
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and module is not head and module.weight.requires_grad
        }
        if not self._layers:
            raise ValueError(
                "no linear layer of the model trains: expected full fine-tuning; for an adapter "
                "make a MagnitudeProbe"
            )
        self._start = self._copies()
        self._steps = steps
        self._before: dict[str, Tensor] | None = None
        self.weights = {name: nu(W) for name, W in self._start.items()}

    def mark(self) -> None:
        """Remember the weights as they are, if steps are asked for."""
        if self._steps:
            self._before = self._copies()

    def note_gradients(self) -> None:
        """Nothing: there are no ∇A and ∇B."""

    def step(self) -> dict[str, LayerStep]:
        """ν[W_t − W_0], and ν[ΔW_t] since the last `step` or `mark`, by layer name."""
        read: dict[str, LayerStep] = {}
        for name, weight in self._layers.items():
            W = weight.detach()
            step = None if self._before is None else nu(_difference(W, self._before[name]))
            read[name] = LayerStep(None, None, nu(_difference(W, self._start[name])), step)
        self.mark()
        return read

    def _copies(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in self._layers.items()}


def _difference(W: Tensor, start: Tensor) -> Tensor:
    """W − W_0 (n, m) in float32 at least: between near values that is exact."""
    dtype = torch.promote_types(W.dtype, torch.float32)
    return W.to(dtype) - start.to(dtype)
