"""What decides a number beside the settings."""

__all__ = ["deciding"]

# Python leaves the numbers alone. Accelerate draws the random order of a run that is not ordered by
# length; it is not in the keys that are published, but a record says its version.
_DECIDE = ("loram", "torch", "transformers", "peft")


def deciding() -> dict[str, str]:
    """Versions of the libraries, and the kind of device."""
    import torch

    from loram.train.run import versions

    known = versions()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {**{name: known[name] for name in _DECIDE}, "device": device}
