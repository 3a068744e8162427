"""What tests put in the place of the real thing, by class path on the command line."""

import errno
import os
import signal
import threading
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from cifar_lightning import ImageClassifier


class Tiny(nn.Module):
    """A network that trains in no time."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


class OneOutput(Tiny):
    """A network that does not do what it is asked."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(1)


class Wide(Tiny):
    """Some megabytes of parameters, so that saving them takes a while."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(num_classes)
        self.unused = nn.Linear(1000, 2000)


class KillWhileSaving(Callback):
    """Kills its own process so many seconds after it began to save its second checkpoint."""

    def __init__(self, after_seconds: float) -> None:
        self._after = after_seconds
        self._saves = 0

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._saves += 1
        if self._saves == 2:
            pid = os.getpid()
            threading.Timer(self._after, lambda: os.kill(pid, signal.SIGKILL)).start()


class SignalAt(Callback):
    """Sends its own process a signal at a chosen point.

    Args:
        hook: the name of the callback's hook.
        signal_name: SIGKILL, SIGTERM or SIGINT.
        call: at which call of the hook, counted from 0 in this process.
        times: how many of them.
    """

    def __init__(self, hook: str, signal_name: str, call: int = 0, times: int = 1) -> None:
        self._times = times
        self._signum = getattr(signal, signal_name)
        self._calls_left = call
        setattr(self, hook, self._hook)

    def _hook(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if trainer.sanity_checking:
            return
        if self._calls_left == 0:
            for _ in range(self._times):
                os.kill(os.getpid(), self._signum)
        self._calls_left -= 1


class Forget(Callback):
    """Loses one thing that a checkpoint holds, while a run is resumed from it.

    Args:
        what: ``position``, ``metric sums``, ``optimizer``, ``scheduler`` or ``logs``.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._what == "position":
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            progress["current"] = dict.fromkeys(progress["current"], 0)
        elif self._what == "metric sums":
            assert isinstance(pl_module, ImageClassifier)
            pl_module.window.reset()
            pl_module.epoch.reset()
        elif self._what == "optimizer":
            checkpoint["optimizer_states"][0]["state"] = {}
        elif self._what == "scheduler":
            checkpoint["lr_schedulers"][0].update(last_epoch=0, _step_count=1)
        elif self._what == "logs":
            checkpoint["cifar_lightning"]["logs"] = {}


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
