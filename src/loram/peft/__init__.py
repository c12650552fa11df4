"""The only room that knows PEFT's internals: registration, the layer, checkpoints, export."""

from loram.peft.apply import apply_
from loram.peft.calibration import Calibration, calibrate
from loram.peft.errors import LoramError
from loram.peft.register import register, unregister
from loram.peft.spec import LoramInit, parse

__all__ = [
    "Calibration",
    "LoramError",
    "LoramInit",
    "apply_",
    "calibrate",
    "parse",
    "register",
    "unregister",
]
