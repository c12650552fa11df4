"""Initialisation schemes: one file each, all of the form (W, r, …) → `Factors`."""

from loram.schemes._factors import Factors
from loram.schemes.loram import DeadAdapterError, factors

__all__ = ["DeadAdapterError", "Factors", "factors"]
