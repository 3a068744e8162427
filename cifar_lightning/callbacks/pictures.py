"""Pictures of what the network sees, has learned and mistakes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from cifar_lightning import lightning_internals
from cifar_lightning.callbacks.collector import Collector
from cifar_lightning.data import CIFAR10DataModule
from cifar_lightning.metrics import Evaluation
from cifar_lightning.runs.loggers import to_tensorboard

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Pictures(Callback):
    """Draws, after the first epoch, every so many epochs and after the last: the confusion matrix,
    the most confident mistakes, calibration, the first convolution's filters, a training batch.
    Of several validations in an epoch the last is drawn.

    Args:
        collector: has the last validation pass.
        data: gives class names and images.
        every_n_epochs: 1 for each epoch.
    """

    def __init__(self, collector: Collector, data: CIFAR10DataModule, every_n_epochs: int) -> None:
        self._collector = collector
        self._data = data
        self._every_n_epochs = every_n_epochs
        self._batch: Tensor | None = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0 and self._is_due(trainer):
            self._draw(trainer, "training batch", self._training_batch, batch[0])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or not (self._is_due(trainer) and _is_last(trainer)):
            return
        self._draw(trainer, "confusion matrix", self._confusion_matrix, trainer)
        self._draw(trainer, "calibration", self._calibration)
        self._draw(trainer, "most confident mistakes", self._mistakes)
        self._draw(trainer, "filters", self._filters, pl_module)

    @property
    def _evaluation(self) -> Evaluation:
        assert self._collector.evaluation is not None
        return self._collector.evaluation

    def _is_due(self, trainer: Trainer) -> bool:
        epoch = trainer.current_epoch + 1
        return epoch in (1, trainer.max_epochs) or epoch % self._every_n_epochs == 0

    def _draw(
        self, trainer: Trainer, tag: str, draw: Callable[..., "Figure | None"], *args: Any
    ) -> None:
        if not trainer.is_global_zero:
            return
        figure = draw(*args)
        if figure is None:
            return
        from cifar_lightning.figures import pixels

        picture, step = pixels(figure), trainer.global_step
        to_tensorboard(
            trainer,
            # one group in TensorBoard: groups of one picture each are folded up
            lambda w: w.add_image(f"pictures/{tag}", picture, step, dataformats="HWC"),
        )

    def _confusion_matrix(self, trainer: Trainer) -> "Figure":
        from cifar_lightning.figures import confusion_matrix

        evaluation = self._evaluation
        title = (
            f"epoch {trainer.current_epoch + 1}: {evaluation.accuracy:.1%} of "
            f"{len(evaluation.labels):,} images"
        )
        return confusion_matrix(evaluation, self._data.source.class_names, title)

    def _calibration(self) -> "Figure":
        from cifar_lightning.figures import calibration

        return calibration(self._evaluation, "validation")

    def _mistakes(self) -> "Figure | None":
        from cifar_lightning.figures import captioned, legible, shortened

        evaluation = self._evaluation
        mistakes = evaluation.mistakes(16)
        if len(mistakes) == 0:
            return None
        names = [shortened(name, 14) for name in legible(self._data.source.class_names)]
        images = self._data.splits.validation.take(mistakes).images
        captions = [
            f"{names[evaluation.predictions[i]]} {evaluation.probabilities[i].max():.0%}\n"
            f"is {names[evaluation.labels[i]]}"
            for i in mistakes.tolist()
        ]
        return captioned(images.numpy(), captions, "the most confident mistakes")

    def _training_batch(self, images: Tensor) -> "Figure":
        from cifar_lightning.figures import mosaic

        seen = self._data.normalise.inverse(images[:64]).cpu().numpy()
        return mosaic(seen, "a training batch as the network sees it", columns=8)

    def _filters(self, pl_module: LightningModule) -> "Figure | None":
        from cifar_lightning.figures import mosaic

        found = [
            (name, module)
            for name, module in pl_module.named_modules()
            if isinstance(module, nn.Conv2d) and module.in_channels == 3
        ]
        if not found:
            return None
        name, convolution = found[0]
        weights = convolution.weight.detach().float().cpu().permute(0, 2, 3, 1).numpy()
        # grey is 0; each filter on its own scale, or one large one would hide the others
        largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
        pixels = (127.5 + 127.5 * weights / np.maximum(largest, 1e-12)).round().astype(np.uint8)
        return mosaic(pixels, f"the {len(pixels)} filters of {name}", columns=12)


def _is_last(trainer: Trainer) -> bool:
    """Whether the validation at hand is the epoch's last. Computed from where the run stands, as a
    resumed run knows nothing of the validations before."""
    if (every := trainer.val_check_batch) is None:  # by the clock, minutes apart
        return True
    _, batches = lightning_internals.next_batch(trainer)
    return batches + every > trainer.num_training_batches
