"""Magnitudes of a live model's adapter, measured while it trains.

    >>> trainer.add_callback(MagnitudeLog(model, "runs/x/magnitudes.jsonl", report=trainer.log))

or in a loop of one's own

    >>> probe = MagnitudeProbe(model)
    >>> loss.backward(); optimizer.step(); now = probe.step(); optimizer.zero_grad()

Works for any LoRA adapter of PEFT, whatever its initialisation: W_LoRA is s(BA − B⁰A⁰), where B⁰,
A⁰ are LoRAM's basis, or what the factors were when the probe was made. All of that is r×r algebra;
`largest_curvature` (λ_max of the loss) and `intruders` (a full SVD a layer) are dearer, and are for
now and then.
"""

from loram.probe.adapter import MagnitudeProbe
from loram.probe.curvature import Curvature, largest_curvature
from loram.probe.full import WeightProbe
from loram.probe.intruders import Intruders, intruders, layer_intruders
from loram.probe.log import MagnitudeLog
from loram.probe.reading import LayerMagnitudes, LayerStep, summary

__all__ = [
    "Curvature",
    "Intruders",
    "LayerMagnitudes",
    "LayerStep",
    "MagnitudeLog",
    "MagnitudeProbe",
    "WeightProbe",
    "intruders",
    "largest_curvature",
    "layer_intruders",
    "summary",
]
