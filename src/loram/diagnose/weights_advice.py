"""What a practitioner should do about a checkpoint's layers."""

from collections.abc import Callable

from loram.diagnose.comparing import far_from_kind, named
from loram.diagnose.weights import Weights

__all__ = ["advise"]

_FAR = 10.0  # times the median of the kind, in ν: three times in the size of entries
_GAIN_OFF = 4.0  # 1.4 in β


def advise(weights: Weights) -> list[str]:
    """One sentence a problem: which layers, what it means, what to do. Empty if there is none."""
    found = [(list(find(weights)), says) for find, says in _CHECKS]
    return [f"{named(names)}: {says.format(r=weights.rank)}" for names, says in found if names]


def _broken(weights: Weights) -> list[str]:
    return [layer.name for layer in weights.layers if not layer.finite]


def _zero(weights: Weights) -> list[str]:
    return [layer.name for layer in weights.layers if layer.nu == 0]


def _constant(weights: Weights) -> list[str]:
    return [layer.name for layer in weights.layers if layer.constant and layer.nu > 0]


def _rank_too_high(weights: Weights) -> list[str]:
    return [layer.name for layer in weights.layers if layer.log_gain is None]


def _no_gain(weights: Weights) -> list[str]:
    return [layer.name for layer in weights.layers if layer.log_gain == 0]


def _exploding(weights: Weights) -> list[str]:
    values = [(layer.name, layer.kind, layer.nu) for layer in weights.layers if layer.finite]
    return far_from_kind(values, _FAR)


def _gain_off(weights: Weights) -> list[str]:
    both = [(layer.name, layer.log_gain, layer.gain) for layer in weights.layers]
    return [
        name
        for name, log, gain in both
        if log and gain and not 1 / _GAIN_OFF <= log / gain.low <= _GAIN_OFF
    ]


def _quantised(weights: Weights) -> list[str]:
    return [f"{each.name} {each.dtype}" for each in weights.unread]


_CHECKS: tuple[tuple[Callable[[Weights], list[str]], str], ...] = (
    (
        _broken,
        "NaN or Inf entries. LoRAM refuses them, and plain LoRA would train on them: get the "
        "checkpoint again, or leave them out of target_modules",
    ),
    (
        _zero,
        "all zero, so β = 0 and a LoRAM adapter there would be dead (it is refused): leave them "
        "out of target_modules, or give them plain LoRA",
    ),
    (
        _constant,
        "all entries are equal, which no trained weight is: check that the checkpoint was written "
        "whole",
    ),
    (
        _rank_too_high,
        "rank {r} is above min(n, m). LoRA of that rank has more parameters than the layer, and "
        "LoRAM refuses it: lower the rank there by rank_pattern",
    ),
    (
        _no_gain,
        "at r = {r} the log gain is log 1 = 0, so LoRAM would be dead (it is refused): take r ≥ 2, "
        "loram(gain=spectral), or a number such as loram(gain=0.1)",
    ),
    (
        _exploding,
        f"ν[W] is more than {_FAR:g} times the median of the kind. β follows ν[W], so a LoRAM "
        "adapter there moves much more than its like: watch magnitudes.jsonl, and leave them out "
        "of target_modules if it explodes",
    ),
    (
        _gain_off,
        f"log gain and spectral gain differ by more than {_GAIN_OFF:g} times, β by the fourth root "
        "of that: loram(gain=spectral) follows the spectrum",
    ),
    (
        _quantised,
        "stored as codes whose scales are elsewhere, and not read here. loram measures them on the "
        "loaded model when the adapter is made; or diagnose the checkpoint they were made from",
    ),
)
