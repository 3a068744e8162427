"""Logs that can be rewound to where they stood when a checkpoint was taken.

A resumed run goes on in its own folder. What was logged after the checkpoint is dropped before
anything new is written, so that no step appears twice. Positions are counted in rows and bytes,
not in steps: a step can have rows from before and from after the checkpoint.
"""

import csv
import logging
import os
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from cifar_lightning.errors import UserError
from cifar_lightning.lightning_internals import drop_writer, open_writer
from cifar_lightning.runs.files import flush, write_then_rename

log = logging.getLogger(__name__)


@runtime_checkable
class Rewindable(Protocol):
    """A logger whose position is kept in checkpoints."""

    def position(self) -> dict[str, Any]:
        """Flush everything logged so far to disk; return where the log ends, as plain values."""

    def rewind(self, position: dict[str, Any]) -> None:
        """Drop what was logged after ``position``."""


_TEST_SUFFIX = ".test"


def event_files(run: Path) -> list[Path]:
    """List the files with a run's TensorBoard events, without those of ``test``."""
    files = run.glob("events.out.tfevents.*")
    return [file for file in files if not file.name.endswith(_TEST_SUFFIX)]


def write_test_metrics(run: Path, metrics: dict[str, float], step: int) -> None:
    """Write the results of ``test`` into a run's TensorBoard events, over those of an earlier test
    with metrics of the same names.

    They have a file of their own, which stays when the run goes on and is rewound.
    """
    kind = "_".join(sorted(name.replace("/", "_") for name in metrics))
    earlier = list(run.glob(f"events.out.tfevents.*.{kind}{_TEST_SUFFIX}"))
    try:
        with SummaryWriter(str(run), filename_suffix=f".{kind}{_TEST_SUFFIX}") as writer:
            for name, value in metrics.items():
                writer.add_scalar(name, value, step)
    except OSError as error:
        log.warning("%s: events cannot be written (%s)", run, error.strerror)
        return
    for file in earlier:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:  # on Windows, what TensorBoard is reading cannot be removed
            log.warning(
                "%s stays beside the newer one (%s): TensorBoard shows both.", file, error.strerror
            )


def to_tensorboard(trainer: Trainer, write: Callable[[Any], None]) -> None:
    """Let ``write`` add to the TensorBoard events of a run, if it has any. Where the disk refuses,
    say so and go on.

    Args:
        trainer: its loggers are looked through.
        write: is given the ``SummaryWriter``.
    """
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            with _or_go_on(logger):
                write(logger.experiment)


@contextmanager
def _or_go_on(logger: TensorBoardLogger) -> Iterator[None]:
    """Where the disk refuses events, say so and go on: it may be full for a while only."""
    try:
        yield
    except OSError as error:
        log.warning("%s: events cannot be written (%s)", logger.log_dir, error.strerror)
        # a writer whose thread has failed raises at every later call: the next opens a new file
        drop_writer(logger)


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
        with _or_go_on(self):
            self.experiment.file_writer.add_summary(Summary(value=values), step)

    @rank_zero_only
    def save(self) -> None:
        """Lightning writes ``hparams.yaml`` here; ``config.yaml`` says more and is kept up."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        with _or_go_on(self):
            super().finalize(status)

    def position(self) -> dict[str, Any]:
        with _or_go_on(self):
            self.experiment.flush()
        files = sorted(event_files(self._folder))
        for file in files:
            flush(file)
        return {file.name: file.stat().st_size for file in files}

    def rewind(self, position: dict[str, Any]) -> None:
        if (writer := open_writer(self)) is not None:  # its file is not among those to keep
            writer.close()
            drop_writer(self)
        for file in event_files(self._folder):
            try:
                if file.name not in position:
                    file.unlink()
                elif file.stat().st_size > position[file.name]:
                    os.truncate(file, position[file.name])
            except OSError as error:  # on Windows, what TensorBoard is reading
                raise UserError(
                    f"{file} cannot be brought back to where the checkpoint was taken "
                    f"({error.strerror}): close what reads it, TensorBoard for one, and go on then."
                ) from error


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
            flush(self._path)
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
                with self._path.open("a", newline="", encoding="utf-8") as file:
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
        with self._path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _rewrite(self, rows: list[dict[str, Any]], columns: list[str]) -> None:
        with (
            write_then_rename(self._path) as part,
            part.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
