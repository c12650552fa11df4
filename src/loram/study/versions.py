"""What decides a number beside the settings."""

__all__ = ["deciding"]

# Python and accelerate leave the numbers alone.
_DECIDE = ("loram", "torch", "transformers", "peft")


def deciding() -> dict[str, str]:
    """Versions of the libraries, and the kind of device."""
    import torch

    from loram.train.run import versions

    known = versions()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {**{name: known[name] for name in _DECIDE}, "device": device}
