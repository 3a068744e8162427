"""What ``fit`` does around Lightning's own: data, the folder of the run, and how it ends."""

import logging
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from filelock import FileLock
from pytorch_lightning import Trainer
from pytorch_lightning.loggers.logger import DummyLogger

from cifar_lightning.classifier import ImageClassifier
from cifar_lightning.cli.checks import check_images, checkpoints_of
from cifar_lightning.cli.own_parts import code_of
from cifar_lightning.cli.ranges import check_batches
from cifar_lightning.cli.resume import check_changes
from cifar_lightning.cli.trial import materialise, try_out
from cifar_lightning.data import CIFAR10DataModule
from cifar_lightning.errors import DivergedError, UserError
from cifar_lightning.models.weights import start_from
from cifar_lightning.processes import slurm
from cifar_lightning.processes.collectives import all_gather, broadcast
from cifar_lightning.processes.signals import Interrupted
from cifar_lightning.runs.checkpoints import Checkpoints
from cifar_lightning.runs.folders import LoadedCheckpoint, goes_on, is_newest_run, open_run
from cifar_lightning.runs.loggers import MetricsCSV, RunTensorBoardLogger
from cifar_lightning.runs.provenance import changes, computed_by
from cifar_lightning.runs.trackers import begin

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """What a run begins with."""

    config: dict[str, Any]
    """As it stands in ``config.yaml``."""
    logs: Path
    """The folder of all runs."""
    found: LoadedCheckpoint | None
    """The checkpoint to go on from."""
    changes: dict[str, tuple[Any, Any]]
    """What its options were and become, by name."""


def fit(trainer: Trainer, model: ImageClassifier, data: CIFAR10DataModule, start: Start) -> None:
    """Train, in a new run or in the one that a checkpoint belongs to.

    Raises:
        UserError: the data or the disk cannot be used, or the loss is no longer finite.
        Interrupted: a signal has asked for the end; the newest state is saved.
    """
    if trainer.local_rank == 0:  # of each machine: they need not share a file system
        data.prepare_data()
    all_gather(None)  # the others wait
    data.setup("fit")
    checkpoints = checkpoints_of(trainer)
    fingerprint = data.fingerprint
    checkpoints.about_data = {
        "data": fingerprint,
        "class_names": list(data.source.class_names),
        "image_side": data.image_side,
    }
    checkpoints.computed_by = computed_by(trainer.strategy.root_device)
    checkpoints.code = code_of(start.config)
    if start.found is not None:
        check_images(fingerprint, start.found)
    check_batches(trainer, data, start.config["trainer"]["log_every_n_steps"])
    materialise(model, data)
    if start.found is None and model.weights is not None:
        model.taken = start_from(model.net, model.weights, list(data.source.class_names))
    try_out(trainer, model, data)
    check_changes(start.changes, model.new_optimizer(model.net))
    lock = None
    if trainer.fast_dev_run:
        trainer.loggers = [DummyLogger()]  # as Lightning does: some callbacks insist on a logger
    else:
        lock = _open_all(trainer, start)
    _introduce(trainer, model, data, start.found)
    try:
        trainer.fit(model, datamodule=data, ckpt_path=start.found and start.found.path)
        checkpoints.stop.raise_if_asked()
    except Interrupted as interrupted:
        if interrupted.signum != slurm.requeue_signal(trainer):
            _say_how_to_go_on(checkpoints)
        elif trainer.is_global_zero:
            slurm.requeue()
        raise
    except DivergedError as error:
        last = checkpoints.run_folder(trainer) / "checkpoints" / "last.ckpt"
        raise UserError(f"{error} The last good checkpoint is {last}.") from error
    finally:
        if lock is not None:
            lock.release()
    if checkpoints.unsaved is not None:
        raise UserError(f"{checkpoints.unsaved}: the final state of the run is lost.")


def _open_all(trainer: Trainer, start: Start) -> FileLock | None:
    """Open the user's loggers and the run's folder. A logger that cannot start leaves no new
    folder; one of a run that another process is training is not touched."""
    trackers, again = list(trainer.loggers), goes_on(start.found)
    if not again:
        begin(trackers, start.config, again)
    lock = open_run_folder(trainer, start)
    if again:
        begin(trackers, start.config, again)
    return lock


def open_run_folder(trainer: Trainer, start: Start) -> FileLock | None:
    """Make or open the folder of the run and let loggers and checkpoints write into it. Returns
    its lock, which process 0 holds."""
    checkpoints = checkpoints_of(trainer)
    run = lock = None
    if trainer.is_global_zero:
        run, lock = open_run(start.logs, start.found, start.config)
        ours = [RunTensorBoardLogger(run)] * (start.config["trainer"]["logger"] is not False)
        # the user's first: trainer.logger, the first, is what their callbacks reckon with
        trainer.loggers = [*trainer.loggers, *ours, MetricsCSV(run)]
    else:  # writes nothing, but some callbacks insist on a logger
        trainer.loggers = [*trainer.loggers, DummyLogger()]
    checkpoints.run, checkpoints.config = broadcast(run), start.config
    write_below(trainer, checkpoints.run)
    return lock


def write_below(trainer: Trainer, run: Path | None) -> None:
    """Let the profiler write its files, if it has any, into the folder of a run: Lightning's
    choice is that of the first logger, which may be the current folder."""
    if trainer.profiler.dirpath is None:
        trainer.profiler.dirpath = run


def _introduce(
    trainer: Trainer,
    model: ImageClassifier,
    data: CIFAR10DataModule,
    found: LoadedCheckpoint | None,
) -> None:
    parameters = sum(p.numel() for p in model.net.parameters())
    log.info(
        "%s, %s parameters, on %s (%s, %s): %s, %s; %s",
        type(model.net).__name__,
        f"{parameters:,}",
        trainer.strategy.root_device,
        trainer.precision,
        model.computing.memory_format,
        type(data.source).__name__,
        data.splits.description,
        checkpoints_of(trainer).run or "no run folder",
    )
    if found is not None:
        log.info("Going on from %s", found.path)
        before = found.ours.get("computed_by", {})
        if (said := changes(before, checkpoints_of(trainer).computed_by)) is not None:
            log.warning("%s", said)


def _say_how_to_go_on(checkpoints: Checkpoints) -> None:
    run = checkpoints.run
    if run is None or not (run / "checkpoints" / "last.ckpt").exists():
        return
    if checkpoints.unsaved is not None:
        log.warning("%s: what is there is older.", checkpoints.unsaved)
    path = "last" if is_newest_run(run) else quote(str(run / "checkpoints" / "last.ckpt"))
    log.info("To go on: python -m cifar_lightning fit --ckpt_path %s", path)
