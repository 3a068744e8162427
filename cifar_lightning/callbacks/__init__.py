"""What goes on beside training: checkpoints, dashboard, terminal, summary."""

from cifar_lightning.callbacks.averaging import AveragedWeights
from cifar_lightning.callbacks.callback_list import CallbackList
from cifar_lightning.callbacks.dashboard import Dashboard
from cifar_lightning.callbacks.progress import Bar, EpochLine, Speed
from cifar_lightning.callbacks.summary import RunSummary
from cifar_lightning.runs.checkpoints import Checkpoints

__all__ = [
    "AveragedWeights",
    "Bar",
    "CallbackList",
    "Checkpoints",
    "Dashboard",
    "EpochLine",
    "RunSummary",
    "Speed",
]
