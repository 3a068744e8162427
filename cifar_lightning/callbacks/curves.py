"""Curves beside loss and accuracy: gradient norm, accuracy of each class, histograms."""

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from cifar_lightning.classifier import ImageClassifier
from cifar_lightning.data import CIFAR10DataModule
from cifar_lightning.runs.loggers import to_tensorboard

_CLASSES = 30  # with a curve each


class ChartLayout(Callback):
    """Training and validation on one chart, in TensorBoard's tab of custom scalars."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        layout = {
            "training and validation": {
                name: ["Multiline", [f"^train/{name}_epoch$", f"^val/{name}$"]]
                for name in ("loss", "acc")
            }
        }
        to_tensorboard(trainer, lambda writer: writer.add_custom_scalars(layout))


class GradientNorm(Callback):
    """Logs ``train/grad_norm``: the 2-norm of all gradients before clipping, at every step that
    is logged."""

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        if isinstance(pl_module, ImageClassifier) and pl_module.meter.is_log_step:
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            pl_module.meter.step_metrics["train/grad_norm"] = get_total_norm(gradients)


class ClassAccuracy(Callback):
    """Logs ``val_acc/<class>``: the share of a class's validation images that are recognised. Of
    more classes than one looks at, the lowest, the median and the highest."""

    def __init__(self, data: CIFAR10DataModule) -> None:
        self._data = data

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(pl_module, ImageClassifier):
            accuracies = pl_module.metrics.class_accuracy.compute().view(-1)
            # a limited pass need not hold every class
            held = pl_module.metrics.confusion().sum(dim=1) > 0
            names = self._data.source.class_names
            if len(names) > _CLASSES:
                accuracies = accuracies[held].quantile(accuracies.new_tensor([0, 0.5, 1]))
                names, held = ("lowest", "median", "highest"), torch.ones(3)
            named = zip(names, accuracies, held, strict=True)
            pl_module.log_dict({f"val_acc/{name}": acc for name, acc, there in named if there})


class Histograms(Callback):
    """Histograms of the weights and of their gradients at the end of each epoch."""

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        if trainer.is_last_batch:
            step = trainer.global_step + 1

            def write(writer: Any) -> None:
                for name, parameter in pl_module.named_parameters():
                    writer.add_histogram(f"weights/{name}", parameter.detach(), step)
                    if parameter.grad is not None and torch.isfinite(parameter.grad).all():
                        writer.add_histogram(f"gradients/{name}", parameter.grad, step)

            to_tensorboard(trainer, write)
