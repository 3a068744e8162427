"""A trial: ``fit`` in the folder of the sweep, pausing at a rung."""

import gc
import io
import logging
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from cifar_lightning.classifier import ImageClassifier
from cifar_lightning.cli.arguments import Arguments
from cifar_lightning.cli.checks import checkpoints_of
from cifar_lightning.cli.fit import Start
from cifar_lightning.cli.lightning_cli import CLI, start
from cifar_lightning.errors import UserError
from cifar_lightning.runs.ending import COMPLETE, read_summary
from cifar_lightning.runs.record import read_run

MONITOR = "val/acc"


class Unfitted(CLI):
    """Whatever ``fit`` makes and checks before it trains."""

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def prepare(options: list[str]) -> Unfitted:
    """Have ``fit``'s own parser read options and make what they name. Raises UserError."""
    sys.argv[1:] = ["fit", *options]
    made = start(Unfitted)
    assert isinstance(made, Unfitted)
    return made


class _Pause(Callback):
    """Ends a run where it can go on, after so many epochs of it."""

    def __init__(
        self, epochs: int, begun: Callable[[Path], None], epoch: Callable[[], None]
    ) -> None:
        self._epochs, self._begun, self._epoch = epochs, begun, epoch
        self.run: Path | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.run = checkpoints_of(trainer).run
        assert self.run is not None
        self._begun(self.run)
        if trainer.current_epoch >= self._epochs:  # was killed when it was there
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch()
        if trainer.current_epoch + 1 >= self._epochs:
            trainer.should_stop = True


class _Trial(CLI):
    def __init__(self, arguments: Arguments, logs: Path, pause: _Pause) -> None:
        self._logs, self._pause = logs, pause
        super().__init__(arguments)

    def start(self) -> Start:
        return replace(super().start(), logs=self._logs)

    def fit(self, model: ImageClassifier, **kwargs: Any) -> None:
        self.trainer.callbacks.insert(0, self._pause)
        super().fit(model, **kwargs)


def train(
    options: list[str],
    logs: Path,
    run: Path | None,
    epochs: int,
    begun: Callable[[Path], None],
    epoch: Callable[[], None],
) -> float:
    """Train a run until so many of its epochs are done. Returns its best held-out accuracy by then.

    Args:
        options: of ``fit``, for a run that begins.
        logs: the folder of a sweep's runs.
        run: that of the trial; None if it has none yet.
        epochs: when to pause.
        begun: is told the run's folder.
        epoch: is called after each epoch.

    Raises:
        UserError: as ``fit``.
        Interrupted: as ``fit``.
    """
    if run is not None and not _can_go_on(run):
        run = None
    if run is None or read_summary(run).get("ended_by") not in COMPLETE:
        last = ["--ckpt_path", str(run / "checkpoints" / "last.ckpt")] if run else options
        sys.argv[1:] = ["fit", *last]
        pause = _Pause(epochs, begun, epoch)
        log = logging.getLogger("cifar_lightning")
        level = log.level
        log.setLevel(logging.WARNING)
        try:
            with redirect_stdout(io.StringIO()):
                start(lambda arguments: _Trial(arguments, logs, pause))
        finally:
            log.setLevel(level)
            gc.collect()  # what a trainer holds goes in circles
        run = pause.run or run
    assert run is not None
    rows = [row for row in read_run(run).epochs if row["epoch"] <= epochs and MONITOR in row]
    if not rows:
        raise UserError(
            f"{run}: no epoch was validated by epoch {epochs}, so there is nothing to rank it by."
        )
    return max(row[MONITOR] for row in rows)


def _can_go_on(run: Path) -> bool:
    """Whether a run has a state to go on from. Of one that was killed before it had any, the
    folder goes."""
    if (run / "checkpoints" / "last.ckpt").exists():
        return True
    if run.exists() and not (run / "summary.json").exists():
        shutil.rmtree(run)
    return False
