"""What ``validate``, ``test`` and ``predict`` do around Lightning's own: by which checkpoint, on
whose images, and what is reported of it."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.profilers import PassThroughProfiler

from cifar_lightning.callbacks.collector import Collector
from cifar_lightning.classifier import ImageClassifier
from cifar_lightning.cli.checks import check_images
from cifar_lightning.cli.fit import write_below
from cifar_lightning.commands.predictions import Pictures, report_predictions
from cifar_lightning.commands.report import Tested, report_test
from cifar_lightning.data import CIFAR10DataModule
from cifar_lightning.errors import local_path
from cifar_lightning.processes.collectives import broadcast
from cifar_lightning.runs.folders import LoadedCheckpoint
from cifar_lightning.runs.results import results_folder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """A pass of a checkpoint over images."""

    found: LoadedCheckpoint
    """The checkpoint."""
    config: dict[str, Any]
    """Of this command, plain values."""
    data: CIFAR10DataModule
    """Whose images it is about."""
    collector: Collector
    """What the network says of them; hangs on the trainer."""
    pictures: Pictures | None
    """What ``predict`` is about; the held-out images if None."""


class HeldOut(Callback):
    """Sees, before the pass, that the images were held out of those that the run was trained on.

    Args:
        found: a checkpoint of that run.
    """

    def __init__(self, found: LoadedCheckpoint) -> None:
        self._found = found

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._found.ours.get("data") is None:
            log.warning(
                "%s does not say which images it was trained on: whether these were held out is "
                "not known.",
                self._found.path,
            )
            return
        data: CIFAR10DataModule = trainer.datamodule
        data.splits.load("fit")
        check_images(data.fingerprint, self._found)


def validate(trainer: Trainer, model: ImageClassifier, asked: Evaluation) -> None:
    """Measure a checkpoint on the held-out images. Raises UserError if the images are not there or
    are others than those of the run."""
    asked.data.splits.check_validates()
    log.info("Validating %s on %s", asked.found.path, asked.data.validated_on)
    trainer.callbacks.append(HeldOut(asked.found))
    if not isinstance(trainer.profiler, PassThroughProfiler):
        write_below(trainer, broadcast(_folder(trainer, asked)))
    trainer.validate(model, asked.data, ckpt_path=asked.found.path)
    (batches,) = trainer.num_val_batches
    if batches < len(asked.data.val_dataloader()):
        log.info("This was a trial, not a pass over all of these images.")


def test(trainer: Trainer, model: ImageClassifier, asked: Evaluation) -> None:
    """Measure a checkpoint on the test images, and report it. Raises UserError if the images are
    not there or the disk refuses."""
    log.info("Testing %s", asked.found.path)
    folder = _folder(trainer, asked)
    write_below(trainer, broadcast(folder))
    trainer.test(model, asked.data, ckpt_path=asked.found.path, verbose=False)
    if trainer.is_global_zero:
        evaluation = asked.collector.evaluation
        assert evaluation is not None
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        whole = _is_whole(trainer, len(evaluation.labels), len(asked.data.splits.test.indices))
        tested = Tested(asked.found, asked.data, asked.config, model.flip_averaging, folder)
        report_test(tested, evaluation, metrics, whole)


def predict(trainer: Trainer, model: ImageClassifier, asked: Evaluation) -> None:
    """Classify pictures, or the held-out images, and report it. Raises UserError if these are not
    there or are others than those of the run, or the disk refuses."""
    data, pictures = asked.data, asked.pictures
    to = local_path(asked.config["to"]) if asked.config["to"] else None
    if pictures is not None:
        data.pictures = pictures.load()
    else:
        data.splits.check_validates()
        trainer.callbacks.append(HeldOut(asked.found))
    log.info("Predicting with %s", asked.found.path)
    folder = _folder(trainer, asked)
    write_below(trainer, broadcast(folder))
    trainer.predict(model, data, ckpt_path=asked.found.path, return_predictions=False)
    if not trainer.is_global_zero:
        return
    names, probabilities = data.source.class_names, asked.collector.outputs
    images = data.splits.validation.indices if data.pictures is None else data.pictures
    if not _is_whole(trainer, len(probabilities), len(images)):
        log.info("No predictions are written: this was a trial, not a pass over all images.")
    elif pictures is not None:
        pictures.report(folder, probabilities, to)
    else:
        report_predictions(asked.found, folder, names, asked.collector.labels, probabilities, to)


def _folder(trainer: Trainer, asked: Evaluation) -> Path | None:
    """Where the results go to, if there are any to keep and this is who keeps them."""
    keeps = trainer.is_global_zero and not trainer.fast_dev_run
    return results_folder(asked.found.run) if keeps else None


def _is_whole(trainer: Trainer, seen: int, images: int) -> bool:
    return not trainer.fast_dev_run and seen == images
