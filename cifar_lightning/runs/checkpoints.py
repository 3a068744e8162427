"""When checkpoints are taken, and what they hold beside Lightning's own state."""

import logging
import time
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, Timer
from pytorch_lightning.trainer.states import TrainerFn

from cifar_lightning import lightning_internals
from cifar_lightning.errors import local_path
from cifar_lightning.processes.collectives import AsyncAllReduceMax, broadcast, world_size
from cifar_lightning.processes.signals import GracefulStop, Interrupted
from cifar_lightning.processes.slurm import requeue_signal
from cifar_lightning.runs.best import BestSoFar, Monitor
from cifar_lightning.runs.checkpoint_io import KEY
from cifar_lightning.runs.in_flight import InFlight
from cifar_lightning.runs.loggers import Rewindable
from cifar_lightning.runs.trackers import versions

log = logging.getLogger(__name__)

FORMAT = 4
"""Raised when what a checkpoint holds changes."""
RESUMABLE = (3, 4)
"""Formats that a run can be resumed from; of others the network can still be tested."""


class Checkpoints(Checkpoint):
    """Keeps ``last.ckpt`` and the best by a metric, and stops the run when a signal asks for it.

    A checkpoint is taken just before a training batch, or after the last one: there everything
    of the batches before is done and logged, validation and end of epoch included. Lightning's
    ``ModelCheckpoint`` takes them between the optimizer's step and the logs of that step, which a
    resumed run then lacks. A run that ``max_steps``, ``max_time`` or early stopping ends in the
    middle of an epoch goes on in the middle of it.

    Args:
        every_seconds: ``last.ckpt`` is written this often, before the first step, and at the end of
            every epoch.
        monitor: what makes an epoch the best: the highest ``val/acc`` or the lowest ``val/loss``.
    """

    def __init__(self, every_seconds: float = 300.0, monitor: Monitor = "val/acc") -> None:
        super().__init__()
        if every_seconds < 0:
            raise ValueError(f"checkpoints.every_seconds {every_seconds} must not be negative")
        self.every_seconds = every_seconds
        self.best = BestSoFar(monitor)
        self.run: Path | None = None
        """The folder of the run; the trainer's log_dir if None."""
        self.config: dict[str, Any] | None = None
        """The run's configuration, plain values; travels in the checkpoints."""
        self.about_data: dict[str, Any] = {"data": None, "class_names": None}
        """The fingerprint of the training data, the names of the classes, and ``image_side`` in
        pixels; travels in the checkpoints, for those who have no data."""
        self.computed_by: dict[str, str] = {}
        """What the bits depend on beside the configuration; travels in the checkpoints."""
        self.code: dict[str, str] = {}
        """Checksums of the user's own files of network and loss, by module; travels, too."""
        self.unsaved: str | None = None
        """Why the newest state is not on disk; None when it is."""
        self.in_mid_epoch = False
        """Whether the run has ended before its last epoch's last batch."""
        self.stop = GracefulStop()
        """The signal that asked the run to stop, if one did."""
        self._agreement = AsyncAllReduceMax()
        self._before_batch = _BeforeBatch(self)
        self._held_back: tuple[bool, int] | None = None
        self._saved_at, self._epoch_saved = 0.0, -1  # no epoch's
        self._resumed = False
        self._in_flight = InFlight()
        self._validation_progress: dict[str, Any] = {}
        self._folder: Path | None = None
        self.log_refused: OSError | None = None
        """Why a log could not be brought to disk for the newest checkpoint."""

    def run_folder(self, trainer: Trainer) -> Path:
        """The folder of the run, which holds ``checkpoints``."""
        return self.run or self._folder or _folder_of(trainer)

    # --- when ---

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # here, where all processes are: Lightning's log_dir is asked of process 0
        self._folder = _folder_of(trainer)
        self._in_flight.begin(trainer)
        if self._before_batch not in trainer.callbacks:
            trainer.callbacks.insert(0, self._before_batch)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # after Lightning's own handlers, which would end the run at a batch's end with status 0
        self.stop.install(*([signum] if (signum := requeue_signal(trainer)) is not None else []))
        lightning_internals.switch_off_sigterm_broadcast(trainer)
        self._timers = lightning_internals.take_over_timers(trainer) if world_size() > 1 else []
        self._held_back, self.in_mid_epoch, self._saved_at = None, False, time.monotonic()
        self._epoch_saved = trainer.current_epoch if self._resumed else -1
        if self._resumed:
            _remove_superseded(trainer, self)
            _remove_parts(trainer, self.run_folder(trainer) / "checkpoints")
            self._validation_progress = lightning_internals.forget_batch_at_hand(trainer)
            self._in_flight.restore(trainer, pl_module)

    def before_batch(self, trainer: Trainer, batch_idx: int) -> None:
        """Take a checkpoint if one is due, and end the run if it is to end here."""
        if self._resumed:
            self._resumed = False
            lightning_internals.end_restart(trainer, self._validation_progress)
        if batch_idx % trainer.accumulate_grad_batches:
            return  # gradients of the batches before would be lost
        epoch_begins = batch_idx == 0 and self._epoch_saved != trainer.current_epoch
        due = int(time.monotonic() - self._saved_at >= self.every_seconds)
        over = int(_is_over(self._timers))
        signum, due, over = self._agreement.exchange(self.stop.signum or 0, due, over)
        if over:
            trainer.should_stop = True
            self._hold_back_stop(trainer)
        self.in_mid_epoch = self._held_back is not None
        if epoch_begins or due or self.best.unsaved or signum or self.in_mid_epoch:
            self._save(trainer)
        if signum:
            raise Interrupted(signum, between_batches=True)
        if self.in_mid_epoch:
            raise StopIteration

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._hold_back_stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._held_back is not None:
            lightning_internals.give_back_stop(trainer, self._held_back)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.in_mid_epoch:
            self._save(trainer)
        self.stop.signum = self._agreement.settle(self.stop.signum or 0, 0, 0)[0] or None
        self.stop.remove()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.stop.remove()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        self._hold_back_stop(trainer)
        if (value := trainer.callback_metrics.get(self.best.monitor)) is not None:
            self.best.update(float(value), trainer.current_epoch)

    def _hold_back_stop(self, trainer: Trainer) -> None:
        """Let a stop in the middle of an epoch wait until the next batch is about to begin."""
        if lightning_internals.wants_to_stop(trainer) and not trainer.is_last_batch:
            before = self._held_back
            stop, max_steps = lightning_internals.hold_back_stop(trainer)
            self._held_back = (stop or before[0], before[1]) if before else (stop, max_steps)

    # --- what ---

    def state_dict(self) -> dict[str, Any]:
        return self.best.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best.load_state_dict(state_dict)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        logs, self.log_refused = _positions(trainer)
        checkpoint[KEY] = {
            "format": FORMAT,
            "config": self.config,
            **self.about_data,
            "computed_by": self.computed_by,
            "code": self.code,
            "logs": logs,
            "trackers": versions(trainer),
            "in_flight": self._in_flight.state(trainer, pl_module),
        }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._resumed = True
            ours = checkpoint.get(KEY, {})
            self._in_flight.load(ours.get("in_flight"))
            _rewind(trainer, ours.get("logs", {}))

    def _save(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run:
            return
        self._saved_at, self._epoch_saved = time.monotonic(), trainer.current_epoch
        if self.best.unsaved and self.best.epoch is not None:
            self.best.begin_save()
            if not self.write(trainer, self.best.epoch.name):
                self.best.save_failed()
        if self.write(trainer, "last.ckpt"):
            _remove_superseded(trainer, self)

    def write(self, trainer: Trainer, name: str) -> bool:
        """Write a checkpoint under a name. Returns whether it is there."""
        path = self.run_folder(trainer) / "checkpoints" / name
        self.unsaved = broadcast(_why_not_written(trainer, path, self))
        return self.unsaved is None


class _BeforeBatch(Callback):
    """Stands first, where Lightning calls checkpoint callbacks last: what others do about a batch
    before it is trained on they do again on resume, and no checkpoint may hold it already."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._checkpoints.before_batch(trainer, batch_idx)


def _is_over(timers: list[Timer]) -> bool:
    left = [timer.time_remaining() for timer in timers]
    return any(seconds is not None and seconds <= 0 for seconds in left)


def _positions(trainer: Trainer) -> tuple[dict[str, Any], OSError | None]:
    """Where the logs end. Of several processes all must give what they have for a checkpoint before
    one of them fails: there an error is returned, not raised."""
    try:
        logs = {
            type(logger).__name__: logger.position()
            for logger in trainer.loggers
            if isinstance(logger, Rewindable)
        }
    except OSError as error:
        if world_size() == 1:
            raise
        return {}, error
    return logs, None


def _remove_superseded(trainer: Trainer, checkpoints: Checkpoints) -> None:
    """Only when a checkpoint on disk no longer counts on it."""
    name = checkpoints.best.superseded
    if name is not None and trainer.is_global_zero:
        (checkpoints.run_folder(trainer) / "checkpoints" / name).unlink(missing_ok=True)
    checkpoints.best.superseded = None


def _remove_parts(trainer: Trainer, folder: Path) -> None:
    """Of checkpoints that a process was saving when it was killed."""
    if trainer.is_global_zero:
        for part in folder.glob(".*.part"):
            part.unlink()


def _rewind(trainer: Trainer, logs: dict[str, Any]) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, Rewindable) and type(logger).__name__ in logs:
            logger.rewind(logs[type(logger).__name__])


def _why_not_written(trainer: Trainer, path: Path, checkpoints: Checkpoints) -> str | None:
    try:
        checkpoint = lightning_internals.dump_checkpoint(trainer)
        if checkpoints.log_refused is not None:
            raise checkpoints.log_refused
        trainer.strategy.save_checkpoint(checkpoint, path)  # process 0 alone writes
    except OSError as error:
        unsaved = f"{path} could not be written ({error.strerror or error})"
        log.warning("%s; the older checkpoint is kept, training goes on", unsaved)
        return unsaved
    return None


def _folder_of(trainer: Trainer) -> Path:
    return local_path(trainer.log_dir or trainer.default_root_dir, "--trainer.default_root_dir")
