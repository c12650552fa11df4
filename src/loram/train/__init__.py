"""One fine-tuning run on the Transformers Trainer."""

from loram.train.errors import DivergedError, RunError
from loram.train.run import run
from loram.train.settings import TrainSettings

__all__ = ["DivergedError", "RunError", "TrainSettings", "run"]
