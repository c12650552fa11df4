"""Classical encoders: matrix factorisation, SASRec, CTR bases, and the trainer they share."""

from loram.recommend.encoders.fit import FitSettings
from loram.recommend.encoders.mf import MF, MfSettings, fit_mf
from loram.recommend.encoders.protocol import Encoder
from loram.recommend.encoders.sasrec import SASRec, SasrecSettings, fit_sasrec

__all__ = [
    "MF",
    "Encoder",
    "FitSettings",
    "MfSettings",
    "SASRec",
    "SasrecSettings",
    "fit_mf",
    "fit_sasrec",
]
