"""Loggers of one's own beside those of the run: a tracker such as W&B or MLflow, or other files.

A run that goes on in its own folder goes on in them, too: what Lightning calls a logger's
``version`` travels in the checkpoints. ``cli/trackers.py`` hands it to the logger that goes on.
"""

import logging
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from cifar_lightning.errors import UserError
from cifar_lightning.runs.loggers import MetricsCSV, RunTensorBoardLogger

log = logging.getLogger(__name__)


def versions(trainer: Trainer) -> list[str | int | None]:
    """What each logger beside the run's own calls what it writes to, for a checkpoint; None if it
    does not say."""
    ours = (RunTensorBoardLogger, MetricsCSV)
    found = (logger.version for logger in trainer.loggers if not isinstance(logger, ours))
    return [v if isinstance(v, str | int) and v != "" else None for v in found]


def begin(trackers: Iterable[Logger], config: dict[str, Any] | None, goes_on: bool) -> None:
    """Let loggers start, and tell them the configuration as the run's hyper-parameters.

    Raises:
        UserError: one of Lightning's loggers cannot start; says why.
    """
    for tracker in trackers:
        name = type(tracker).__name__
        try:
            if isinstance(tracker, CSVLogger):
                _keep_rows(tracker)
            _ = tracker.experiment if hasattr(tracker, "experiment") else None
        except Exception as error:
            if not type(tracker).__module__.startswith("pytorch_lightning."):
                raise
            raise UserError(f"--trainer.logger {name}: {error}") from error
        try:
            tracker.log_hyperparams(config or {})
        except Exception as error:
            if not goes_on:
                raise
            reason = str(error).strip().partition("\n")[0]
            log.warning("%s keeps the hyper-parameters that it had (%s).", name, reason)


@rank_zero_only
def _keep_rows(logger: CSVLogger) -> None:
    """Lightning's ``CSVLogger`` begins by removing the metrics that are there already."""
    path = Path(logger.log_dir) / "metrics.csv"
    if not path.exists():
        return
    aside = path.with_name("metrics.csv.kept")
    path.rename(aside)
    try:
        with warnings.catch_warnings(action="ignore"):  # that it removes them
            writer = logger.experiment
    finally:
        aside.rename(path)
    with path.open(newline="") as file:
        writer.metrics_keys = file.readline().strip().split(",")
