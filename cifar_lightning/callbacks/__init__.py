"""What goes on beside training: checkpoints, dashboard, terminal, summary."""

from cifar_lightning.callbacks.checkpoints import Checkpoints
from cifar_lightning.callbacks.dashboard import Dashboard
from cifar_lightning.callbacks.progress import progress_callbacks
from cifar_lightning.callbacks.summary import RunSummary

__all__ = ["Checkpoints", "Dashboard", "RunSummary", "progress_callbacks"]
