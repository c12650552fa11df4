"""Recommenders: interactions, splits, metrics, untrained floors, classical encoders, MACDAE."""

from loram.recommend.errors import RecommendError
from loram.recommend.interactions import Column, Interactions
from loram.recommend.reading import Columns, read

__all__ = ["Column", "Columns", "Interactions", "RecommendError", "read"]
