"""What every scheme returns."""

from typing import NamedTuple

from torch import Tensor


class Factors(NamedTuple):
    """Starting factors of an adapter.

    Attributes:
        B0: (n, r).
        A0: (r, m).
        beta: the scale that a scaled basis was given, B0 = β Φ_n and A0 = β Φ_mᵀ.
    """

    B0: Tensor
    A0: Tensor
    beta: float
