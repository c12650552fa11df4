"""What a model is fine-tuned on and judged by."""

from loram.tasks.answers import exact_match, final_answer
from loram.tasks.errors import DataError
from loram.tasks.sources import Data, Example, load

__all__ = ["Data", "DataError", "Example", "exact_match", "final_answer", "load"]
