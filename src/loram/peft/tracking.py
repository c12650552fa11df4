"""Tracking mode: the magnitude that another initialisation gives B⁰A⁰ (arXiv 2507.06558, §4.3).

The reference is run itself, by PEFT where it is PEFT's, on a copy of the layer; the model is only
read. A Conv1D is copied as a Linear: in a Conv1D PEFT's OLoRA factorises the transpose, and its
LoRA-GA takes the width of the input for that of the output.
"""

import copy
from typing import Any

import torch
from peft import LoraConfig, LoraGAConfig
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn

from loram.magnitude import nu_product
from loram.peft.calibration import COVARIANCE, GRADIENT, gradient_of, missing
from loram.schemes._svd import check

__all__ = ["reference_magnitude"]


@torch.no_grad()
def reference_magnitude(
    base: nn.Module, W: Tensor, r: int, *, scaling: float, reference: str
) -> float:
    """ν[B⁰A⁰] of the factors that `reference` would start a layer with.

    Args:
        base: the layer, Linear or Conv1D, with what a calibration left on it.
        W: its weight (n, m).
        r: rank.
        scaling: s; PEFT's references divide their product by it.
        reference: one of `loram.peft.spec.REFERENCES`.

    Returns:
        ν of the factors as they are stored, so rounded to the base's dtype.

    Raises:
        ValueError, TypeError: r or W is not for that reference, or it needs a calibration that was
            not made.
    """
    check(W, r)
    # Some references draw random numbers: the run's own stream must not notice.
    with torch.random.fork_rng(devices=[W.device] if W.device.type == "cuda" else []):
        adapter: Any = LoraLinear(
            _copy(base, W, reference),
            "reference",
            config=LoraConfig(
                init_lora_weights=reference,  # pyright: ignore[reportArgumentType]
                corda_config=CordaConfig() if reference == "corda" else None,
                lora_ga_config=LoraGAConfig() if reference == "lora_ga" else None,
            ),
            r=r,
            lora_alpha=scaling * r,  # pyright: ignore[reportArgumentType]
        )
    return nu_product(adapter.lora_B["reference"].weight, adapter.lora_A["reference"].weight)


def _copy(base: nn.Module, W: Tensor, reference: str) -> nn.Linear:
    """A Linear of the same weight that PEFT may rewrite."""
    n, m = W.shape
    linear = nn.Linear(m, n, bias=False, device="meta")
    linear.weight = nn.Parameter(W.detach().clone(), requires_grad=False)
    if reference == "corda":
        if not hasattr(base, COVARIANCE):
            raise missing(reference)
        setattr(linear, COVARIANCE, copy.deepcopy(getattr(base, COVARIANCE)))
    if reference in ("lora_ga", "lora_one"):
        setattr(linear, GRADIENT, gradient_of(base, reference))
    return linear
