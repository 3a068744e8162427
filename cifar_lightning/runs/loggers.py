"""Logs that can be wound back to what they held when a checkpoint was taken.

A resumed run goes on in its own folder. What was logged after the checkpoint is gone from its
logs before anything new is written, so that no step appears twice. The place in a log is counted
in rows and bytes, not in steps: a step can have rows from before and from after the checkpoint.
"""

import csv
import logging
import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from cifar_lightning.runs.checkpoint_io import flush_folder

log = logging.getLogger(__name__)


@runtime_checkable
class Rewindable(Protocol):
    """A logger whose place travels in checkpoints."""

    def position(self) -> dict[str, Any]:
        """Bring everything logged so far to disk and say where the log ends: plain values."""

    def rewind(self, position: dict[str, Any]) -> None:
        """Drop what was logged after ``position``."""


_TEST_SUFFIX = ".test"


def event_files(run: Path) -> list[Path]:
    """The files with a run's TensorBoard events, without those of ``test``."""
    files = run.glob("events.out.tfevents.*")
    return [file for file in files if not file.name.endswith(_TEST_SUFFIX)]


def write_test_metrics(run: Path, metrics: dict[str, float], step: int) -> None:
    """Put the results of ``test`` beside the curves of a run, in place of those of an earlier one
    with metrics of these names.

    They are in a file of their own: the run may go on and be wound back, they stay.
    """
    kind = "_".join(sorted(name.replace("/", "_") for name in metrics))
    earlier = list(run.glob(f"events.out.tfevents.*.{kind}{_TEST_SUFFIX}"))
    with SummaryWriter(str(run), filename_suffix=f".{kind}{_TEST_SUFFIX}") as writer:
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)
    for file in earlier:
        file.unlink(missing_ok=True)


def to_tensorboard(trainer: Trainer, write: Callable[[Any], None]) -> None:
    """Let ``write`` add to the TensorBoard events of a run, if it has any; where the disk refuses,
    that is said and training goes on.

    Args:
        trainer: its loggers are looked through.
        write: is given the ``SummaryWriter``.
    """
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            try:
                write(logger.experiment)
            except OSError as error:
                _give_up(logger, error)


def _give_up(logger: TensorBoardLogger, error: OSError) -> None:
    # a disk that is full for a while must not end the training; and a writer whose thread has
    # failed raises at every later call, so the next event opens a new file
    log.warning("%s: events cannot be written (%s)", logger.log_dir, error.strerror)
    logger._experiment = None


class RunTensorBoardLogger(TensorBoardLogger):
    """TensorBoard events, directly in the folder of the run."""

    def __init__(self, folder: Path) -> None:
        # No hp_metric of −1 in the HParams tab.
        super().__init__(folder.parent, name="", version=folder.name, default_hp_metric=False)
        self._folder = folder

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        # one event for all: Lightning hands them to the writer's thread one by one
        values = [Summary.Value(tag=k, simple_value=float(v)) for k, v in metrics.items()]
        try:
            self.experiment.file_writer.add_summary(Summary(value=values), step)
        except OSError as error:
            _give_up(self, error)

    @rank_zero_only
    def save(self) -> None:
        """Lightning writes ``hparams.yaml`` here; ``config.yaml`` says more and is kept up."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        try:
            super().finalize(status)
        except OSError as error:
            _give_up(self, error)

    def position(self) -> dict[str, Any]:
        try:
            self.experiment.flush()
        except OSError as error:
            _give_up(self, error)
        files = sorted(event_files(self._folder))
        for file in files:
            _flush_to_disk(file)
        return {file.name: file.stat().st_size for file in files}

    def rewind(self, position: dict[str, Any]) -> None:
        if self._experiment is not None:  # its file is not among those to keep
            self._experiment.close()
            self._experiment = None
        for file in event_files(self._folder):
            if file.name not in position:
                file.unlink()
            elif file.stat().st_size > position[file.name]:
                os.truncate(file, position[file.name])


class MetricsCSV(Logger):
    """``metrics.csv``: a row each time something is logged, a column for each metric.

    Values are written with the shortest digits that give back the same float32. Lightning's own
    CSVLogger deletes the file of the run that it goes on with.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._path = folder / "metrics.csv"
        self._columns = ["epoch", "step"]
        self._rows = 0
        self._waiting: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        return self._folder.parent.name

    @property
    def version(self) -> str:
        return self._folder.name

    @property
    def log_dir(self) -> str:
        return str(self._folder)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        pass

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row: dict[str, Any] = {name: str(np.float32(value)) for name, value in metrics.items()}
        row["step"] = step
        if "epoch" in metrics:
            row["epoch"] = int(metrics["epoch"])
        self._waiting.append(row)
        try:
            self._write_waiting()
        except OSError as error:  # a disk that is full for a while must not end the training
            log.warning("%s cannot be written (%s); trying again", self._path, error.strerror)

    def position(self) -> dict[str, Any]:
        """Raises OSError if something logged cannot be brought to disk."""
        self._write_waiting()
        if self._path.exists():
            _flush_to_disk(self._path)
        return {"rows": self._rows, "columns": list(self._columns)}

    def rewind(self, position: dict[str, Any]) -> None:
        self._columns = list(position["columns"])
        rows = self._read()[: position["rows"]]
        self._rows = len(rows)
        if rows:
            self._rewrite(rows, self._columns)

    def _write_waiting(self) -> None:
        new = [name for row in self._waiting for name in row if name not in self._columns]
        columns = [*self._columns, *dict.fromkeys(new)]
        if new or self._rows == 0:
            rows = self._read()[: self._rows]
            self._rewrite([*rows, *self._waiting], columns)
        else:
            size = self._path.stat().st_size
            try:
                with self._path.open("a", newline="") as file:
                    csv.DictWriter(file, columns).writerows(self._waiting)
            except OSError:
                os.truncate(self._path, size)
                raise
        self._columns = columns
        self._rows += len(self._waiting)
        self._waiting = []

    def _read(self) -> list[dict[str, str]]:
        if not self._path.exists():
            return []
        with self._path.open(newline="") as file:
            return list(csv.DictReader(file))

    def _rewrite(self, rows: list[dict[str, Any]], columns: list[str]) -> None:
        part = self._path.with_name(f".{self._path.name}.part")
        try:
            with part.open("w", newline="") as file:
                writer = csv.DictWriter(file, columns, extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
        finally:
            part.unlink(missing_ok=True)
        flush_folder(self._path.parent)


def _flush_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
