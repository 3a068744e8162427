"""The outputs of a pass over a split, kept for those who look at all of them together."""

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from cifar_lightning.evaluation import Evaluation


class Collector(Callback):
    """Keeps logits and labels of each validation or test pass; 0.4 MB for 10,000 images."""

    def __init__(self) -> None:
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []

    @property
    def evaluation(self) -> Evaluation:
        """Of the last pass, once all its batches are done."""
        logits = torch.cat(self._logits).float().cpu()
        return Evaluation(logits.softmax(dim=1), torch.cat(self._labels).cpu())

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._logits, self._labels = [], []

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._logits, self._labels = [], []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._logits.append(outputs)
        self._labels.append(batch[1])

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self._logits.append(outputs)
        self._labels.append(batch[1])
