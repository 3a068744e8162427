"""What accompanies training: checkpoints, the lines in the terminal, the run's summary."""

from cifar_lightning.callbacks.checkpoints import Checkpoints
from cifar_lightning.callbacks.progress import EpochLine, Speed, progress_callbacks
from cifar_lightning.callbacks.summary import RunSummary

__all__ = ["Checkpoints", "EpochLine", "RunSummary", "Speed", "progress_callbacks"]
