"""The magnitude principle (arXiv 2507.06558): what it says of a run before it is made."""

from loram.dynamics.bounds import ExcessRisk, excess_risk, steepest_factors
from loram.dynamics.equivalence import Settings, equivalent
from loram.dynamics.growth import Magnitudes, Start, k1, linearised, magnitudes, slope
from loram.dynamics.matching import matched_rate

__all__ = [
    "ExcessRisk",
    "Magnitudes",
    "Settings",
    "Start",
    "equivalent",
    "excess_risk",
    "k1",
    "linearised",
    "magnitudes",
    "matched_rate",
    "slope",
    "steepest_factors",
]
