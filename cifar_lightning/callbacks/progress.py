"""What a person sees while a run is on its way."""

import math
import time
from datetime import timedelta
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar

from cifar_lightning.classifier import ImageClassifier
from cifar_lightning.data.batches import Share
from cifar_lightning.processes.collectives import world_size
from cifar_lightning.runs.checkpoints import Checkpoints


class Bar(TQDMProgressBar):
    """Lightning's bar with speed and the time left of the run, for a terminal."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=10)
        self._of_the_run: dict[str, str] = {}
        self._started = (0.0, 0)

    def get_metrics(self, *args: Any) -> dict[str, Any]:
        metrics = super().get_metrics(*args)
        metrics.pop("v_num", None)  # the last four letters of "version_N"
        known = args[0].callback_metrics
        metrics.update((name, known[name]) for name in ("train/loss", "train/acc") if name in known)
        return {**{_short(name): value for name, value in metrics.items()}, **self._of_the_run}

    def on_train_start(self, *args: Any) -> None:
        super().on_train_start(*args)
        self._started = (time.perf_counter(), args[0].global_step)

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        started, first = self._started
        # with gradients accumulated there are batches before the first step is done
        if trainer.global_step > first and trainer.global_step % trainer.log_every_n_steps == 0:
            steps = trainer.estimated_stepping_batches - trainer.global_step
            speed = trainer.callback_metrics.get("speed/images_per_second")
            seconds = (time.perf_counter() - started) / (trainer.global_step - first) * steps
            if math.isfinite(seconds):
                self._of_the_run["run"] = f"{timedelta(seconds=round(seconds))} left"
            if speed is not None:
                self._of_the_run["img/s"] = f"{speed:,.0f}"
        super().on_train_batch_end(trainer, *args)


def _short(name: str) -> str:
    """The bar has one line: the names of training lose their prefix."""
    return name.removeprefix("train/")


class Speed(Callback):
    """Logs ``speed/images_per_second``: training alone, since the last time or epoch start; and
    ``speed/seconds_per_epoch``, with validation and checkpoints, of epochs not interrupted."""

    def __init__(self) -> None:
        self._images = 0
        self._since = 0.0
        self._epoch_start: float | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_start = time.perf_counter()
        self._restart()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restart()  # a run resumed in mid-epoch does not start an epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._epoch_start is not None:
            pl_module.log("speed/seconds_per_epoch", time.perf_counter() - self._epoch_start)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restart()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not isinstance(pl_module, ImageClassifier):
            return
        # somebody else's loader gives each process batches of its own
        self._images += batch.of if isinstance(batch, Share) else len(batch[1]) * world_size()
        if pl_module.meter.is_log_step:
            pl_module.meter.read()  # a GPU is still at work on what it was given
            speed = self._images / (time.perf_counter() - self._since)
            pl_module.meter.step_metrics["speed/images_per_second"] = speed
            self._restart()

    def _restart(self) -> None:
        self._images, self._since = 0, time.perf_counter()


class EpochLine(Callback):
    """Prints a line when an epoch and its validation are done."""

    def __init__(self) -> None:
        self._started: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.perf_counter()  # a run resumed in mid-epoch does not start an epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._print(trainer)  # of the epoch before: its means are known only now
        self._started = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._print(trainer)

    def _print(self, trainer: Trainer) -> None:
        metrics = trainer.callback_metrics
        if self._started is None or "train/loss_epoch" not in metrics or not trainer.is_global_zero:
            return
        seconds = time.perf_counter() - self._started
        self._started = None
        of_all = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        line = (
            f"epoch {trainer.current_epoch:>3}{of_all}"
            f"  train loss {metrics['train/loss_epoch']:.4f} acc {metrics['train/acc_epoch']:.2%}"
        )
        module = trainer.lightning_module
        fresh = isinstance(module, ImageClassifier) and module.validated_at == trainer.global_step
        if fresh and "val/loss" in metrics:
            line += f"  val loss {metrics['val/loss']:.4f} acc {metrics['val/acc']:.2%}"
        checkpoints = trainer.checkpoint_callback
        new_best = (
            isinstance(checkpoints, Checkpoints)
            and checkpoints.best.epoch is not None
            and checkpoints.best.epoch.epoch == trainer.current_epoch - 1
        )
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        line += f"  lr {lr:.3g}  {seconds:.1f} s{'  best so far' if new_best else ''}"
        bar = trainer.progress_bar_callback
        if bar is None:
            print(line, flush=True)
        else:
            bar.print(line)  # above the bar, which would overwrite it
