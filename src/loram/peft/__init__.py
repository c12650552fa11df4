"""The only room that knows PEFT's internals: registration, the layer, checkpoints, export."""

from loram.peft.apply import apply_
from loram.peft.errors import LoramError
from loram.peft.register import register, unregister
from loram.peft.spec import LoramInit, parse

__all__ = ["LoramError", "LoramInit", "apply_", "parse", "register", "unregister"]
