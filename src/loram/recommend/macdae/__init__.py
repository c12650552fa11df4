"""MACDAE (arXiv 1907.04924): a user's implicit context, alone or in front of a recommender."""

from loram.recommend.macdae.context import ContextEncoder
from loram.recommend.macdae.settings import PAPER_CODE, REPAIRS, MacdaeSettings

__all__ = ["PAPER_CODE", "REPAIRS", "ContextEncoder", "MacdaeSettings"]
