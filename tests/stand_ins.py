"""What tests put in the place of the real thing, by class path on the command line."""

import errno
import os
import signal
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn


class Tiny(nn.Module):
    """A network that trains in no time."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


class SignalAt(Callback):
    """Sends its own process a signal at a chosen point.

    Args:
        hook: the name of the callback's hook.
        signal_name: SIGKILL, SIGTERM or SIGINT.
        call: at which call of the hook, counted from 0 in this process.
    """

    def __init__(self, hook: str, signal_name: str, call: int = 0) -> None:
        self._signum = getattr(signal, signal_name)
        self._calls_left = call
        setattr(self, hook, self._hook)

    def _hook(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if trainer.sanity_checking:
            return
        if self._calls_left == 0:
            os.kill(os.getpid(), self._signum)
        self._calls_left -= 1


class DiskFull(Callback):
    """Lets no file be brought to disk between two steps.

    Args:
        first: the step from which on it is refused.
        last: the step from which on it works again.
    """

    def __init__(self, first: int, last: int) -> None:
        self._refused = range(first, last)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        fsync = os.fsync

        def refuses(descriptor: int) -> None:
            if trainer.global_step in self._refused:
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(descriptor)

        os.fsync = refuses  # type: ignore[assignment]
