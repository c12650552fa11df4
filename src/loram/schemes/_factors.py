"""What every scheme returns."""

from typing import NamedTuple

from torch import Tensor


class Factors(NamedTuple):
    """Starting factors of an adapter.

    Attributes:
        B0: (n, r).
        A0: (r, m).
        beta: of a scaled basis, B0 = β Φ_n and A0 = β Φ_mᵀ; None for other schemes.
    """

    B0: Tensor
    A0: Tensor
    beta: float | None = None
