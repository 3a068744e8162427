"""When checkpoints are taken, and what they hold beside Lightning's own state."""

import logging
import time
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from cifar_lightning.processes.collectives import AsyncAllReduceMax, broadcast, world_size
from cifar_lightning.processes.signals import GracefulStop, Interrupted
from cifar_lightning.processes.slurm import requeue_signal
from cifar_lightning.runs.loggers import Rewindable

log = logging.getLogger(__name__)

KEY = "cifar_lightning"
"""The entry of a checkpoint that holds what this project adds to Lightning's."""
FORMAT = 3
"""Raised when an older entry can no longer be resumed from."""


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

    def __init__(
        self, every_seconds: float = 300.0, monitor: Literal["val/acc", "val/loss"] = "val/acc"
    ) -> None:
        super().__init__()
        if every_seconds < 0:
            raise ValueError(f"checkpoints.every_seconds {every_seconds} must not be negative")
        self.every_seconds = every_seconds
        self.monitor = monitor
        self.run: Path | None = None
        """The folder of the run; the trainer's log_dir if None."""
        self.config: dict[str, Any] | None = None
        """The run's configuration, plain values; travels in the checkpoints."""
        self.data: str | None = None
        """The fingerprint of the training data; travels in the checkpoints."""
        self.class_names: list[str] | None = None
        """The names of the classes; travel in the checkpoints, for those who have no data."""
        self.best_score: float | None = None
        self.best_epoch: int | None = None
        self.best_name: str | None = None
        self.unsaved: str | None = None
        """Why the newest state is not on disk; None when it is."""
        self._superseded: str | None = None
        self._best_before: tuple[float | None, int | None, str | None] | None = None
        self._epoch_saved: int | None = None
        self._resumed = False
        self._saved_at = 0.0
        self._validation_progress: dict[str, Any] = {}
        self._folder: Path | None = None
        self._log_refused: OSError | None = None
        self.in_mid_epoch = False
        """Whether the run has ended before its last epoch's last batch."""
        self._held_back: tuple[bool, int] | None = None
        self._agreement = AsyncAllReduceMax()
        self.stop = GracefulStop()
        """The signal that asked the run to stop, if one did."""

    def run_folder(self, trainer: Trainer) -> Path:
        """The folder of the run; checkpoints are in ``checkpoints`` below it."""
        return self.run or self._folder or _folder_of(trainer)

    # --- when ---

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # here, where all processes are: Lightning's log_dir is asked of process 0
        self._folder = _folder_of(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # after Lightning's own handlers, which would end the run at a batch's end with status 0
        self.stop.install(*([signum] if (signum := requeue_signal(trainer)) is not None else []))
        # Lightning's way to let all know of a signal is a broadcast before each step, for which a
        # GPU has to wait, and which hides that another process is gone.
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
        self._held_back, self.in_mid_epoch = None, False
        self._saved_at = time.monotonic()
        self._epoch_saved = trainer.current_epoch if self._resumed else None
        if self._resumed:
            self._remove_superseded(trainer)
            if trainer.is_global_zero:
                for part in (self.run_folder(trainer) / "checkpoints").glob(".*.part"):
                    part.unlink()  # of a process that was killed while it was saving
            # the batch at hand when the checkpoint was taken has not been trained on
            progress = trainer.fit_loop.epoch_loop.batch_progress
            progress.total.ready = progress.total.completed
            progress.is_last_batch = False
            validation = trainer.fit_loop.epoch_loop.val_loop.batch_progress
            self._validation_progress = validation.state_dict()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._resumed:
            self._resumed = False
            self._end_restart(trainer)
        if batch_idx % trainer.accumulate_grad_batches:
            return  # gradients of the batches before would be lost
        epoch_begins = batch_idx == 0 and self._epoch_saved != trainer.current_epoch
        due = time.monotonic() - self._saved_at >= self.every_seconds
        # 0 is no signal
        signum, due_somewhere = self._agreement.exchange(self.stop.signum or 0, int(due))
        self.in_mid_epoch = self._held_back is not None
        newly_best = self._best_before is not None
        if epoch_begins or due_somewhere or newly_best or signum or self.in_mid_epoch:
            self._save(trainer)
        if signum:
            raise Interrupted(signum)
        if self.in_mid_epoch:
            raise StopIteration  # by which Lightning's loop ends

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._hold_back_stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._held_back is not None:
            trainer.should_stop, trainer.fit_loop.epoch_loop.max_steps = self._held_back

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.in_mid_epoch:
            self._save(trainer)
        signum, _ = self._agreement.settle(self.stop.signum or 0, 0)
        self.stop.signum = signum or None
        self.stop.remove()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.stop.remove()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        self._hold_back_stop(trainer)
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            return
        score, best = float(value), self.best_score
        if best != self.better_of(score):
            self._best_before = (best, self.best_epoch, self.best_name)
            metric = self.monitor.replace("/", "_")
            self.best_score, self.best_epoch = score, trainer.current_epoch
            self.best_name = f"epoch={trainer.current_epoch}-{metric}={score:.4f}.ckpt"

    def _hold_back_stop(self, trainer: Trainer) -> None:
        """Let a stop in the middle of an epoch wait until the next batch is about to begin:
        Lightning ends the epoch there, and goes on with the next one when resumed."""
        loop = trainer.fit_loop.epoch_loop
        early = trainer.should_stop and trainer.fit_loop._can_stop_early
        enough = 0 <= loop.max_steps <= trainer.global_step
        if (early or enough) and not trainer.is_last_batch:
            stop, max_steps = self._held_back or (False, loop.max_steps)
            self._held_back = (stop or trainer.should_stop, max_steps)
            trainer.should_stop, loop.max_steps = False, -1

    def better_of(self, score: Tensor | float | None) -> float | None:
        """The best score so far, or this one if it is better."""
        scores = [float(s) for s in (self.best_score, score) if s is not None]
        choose = max if self.monitor == "val/acc" else min
        return choose(scores) if scores else None

    # --- what ---

    def state_dict(self) -> dict[str, Any]:
        return {
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "best_name": self.best_name,
            "superseded": self._superseded,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_score = state_dict["best_score"]
        self.best_epoch = state_dict["best_epoch"]
        self.best_name = state_dict["best_name"]
        self._superseded = state_dict["superseded"]

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._log_refused = None
        try:
            logs = {
                type(logger).__name__: logger.position()
                for logger in trainer.loggers
                if isinstance(logger, Rewindable)
            }
        except OSError as error:
            if world_size() == 1:
                raise
            # raised when all processes have given what they have for the checkpoint
            self._log_refused, logs = error, {}
        checkpoint[KEY] = {
            "format": FORMAT,
            "config": self.config,
            "data": self.data,
            "class_names": self.class_names,
            "logs": logs,
        }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        self._resumed = True
        logs = checkpoint.get(KEY, {}).get("logs", {})
        for logger in trainer.loggers:
            if isinstance(logger, Rewindable) and type(logger).__name__ in logs:
                logger.rewind(logs[type(logger).__name__])

    def _save(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run:
            return
        self._saved_at = time.monotonic()
        self._epoch_saved = trainer.current_epoch
        if self._best_before is not None:
            best_before, self._best_before = self._best_before, None
            self._superseded = best_before[2]
            if not self._write(trainer, str(self.best_name)):
                # what could not be kept is not the best: a later epoch may still be kept
                self.best_score, self.best_epoch, self.best_name = best_before
                self._superseded = None
        if self._write(trainer, "last.ckpt"):
            self._remove_superseded(trainer)

    def _write(self, trainer: Trainer, name: str) -> bool:
        path = self.run_folder(trainer) / "checkpoints" / name
        # as Trainer.save_checkpoint does, but for its barrier: process 0 would not reach it when
        # the disk refuses
        unsaved = None
        try:
            checkpoint = trainer._checkpoint_connector.dump_checkpoint()
            if self._log_refused is not None:
                raise self._log_refused
            trainer.strategy.save_checkpoint(checkpoint, path)  # process 0 alone writes
        except OSError as error:
            unsaved = f"{path} could not be written ({error.strerror or error})"
            log.warning("%s; the older checkpoint is kept, training goes on", unsaved)
        self.unsaved = broadcast(unsaved)
        return self.unsaved is None

    def _remove_superseded(self, trainer: Trainer) -> None:
        # only now that a checkpoint on disk no longer counts on it
        if self._superseded is not None and trainer.is_global_zero:
            (self.run_folder(trainer) / "checkpoints" / self._superseded).unlink(missing_ok=True)
        self._superseded = None

    def _end_restart(self, trainer: Trainer) -> None:
        """Put right what Lightning guesses wrongly when it resumes from just before a batch."""
        epoch_loop = trainer.fit_loop.epoch_loop
        # It adds one to the step that logs are written under, knowing saves in mid-batch only.
        epoch_loop._batches_that_stepped = trainer.global_step
        # It takes the whole resumed epoch for a restart: a plateau scheduler would miss its step.
        trainer.fit_loop._restarting = False
        # It counts a validation as done that is already counted.
        epoch_loop.val_loop.batch_progress.load_state_dict(self._validation_progress)


def _folder_of(trainer: Trainer) -> Path:
    return Path(trainer.log_dir or trainer.default_root_dir)
