"""The one error of this room."""

__all__ = ["LoramError"]


class LoramError(ValueError):
    """LoRAM can't do what was asked; the message says what can be done instead."""
