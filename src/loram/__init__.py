"""LoRA that starts at the right magnitude.

    >>> import loram
    >>> from peft import LoraConfig, get_peft_model
    >>> model = get_peft_model(base, LoraConfig(r=16, lora_alpha=16, init_lora_weights="loram"))

Importing this package registers the strings `loram` and `loram_residual` with PEFT.
"""

from loram._version import __version__
from loram.peft import LoramError, apply_, calibrate, register
from loram.schemes import DeadAdapterError, Factors, factors

__all__ = [
    "DeadAdapterError",
    "Factors",
    "LoramError",
    "__version__",
    "apply_",
    "calibrate",
    "factors",
]

register()
