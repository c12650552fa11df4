"""One fine-tuning run on the Transformers Trainer."""

from loram.train.run import RunError, run
from loram.train.settings import TrainSettings

__all__ = ["RunError", "TrainSettings", "run"]
