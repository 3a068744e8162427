"""A step and a validation batch on copies, before a run has a folder.

What a network, a loss, an optimizer, a schedule or a metric of anybody's would raise in the run is
raised here, and answered. The run itself is not touched: copies are trained, on images that are
read beside it, without its loggers and callbacks, and the global generators are put back.
"""

import math
from contextlib import suppress
from copy import deepcopy
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from cifar_lightning.classifier import ImageClassifier
from cifar_lightning.cli.checks import check_validated
from cifar_lightning.cli.contract import Contract, shape
from cifar_lightning.cli.monitors import check_monitors
from cifar_lightning.data import CIFAR10DataModule
from cifar_lightning.data.generators import generators_put_back
from cifar_lightning.data.splits import Subset
from cifar_lightning.errors import UsageError, answered_about, own_traceback
from cifar_lightning.runs.config import class_name

_MOST_IMAGES = 64


def try_out(trainer: Trainer, model: ImageClassifier, data: CIFAR10DataModule) -> None:
    """Whether network, loss, metrics, optimizer, schedule and images go together.

    A network or a loss that cannot be copied is only asked about a batch.

    Args:
        trainer: whose device and precision the copies have.
        model: as it is before the run; keeps its state, but for layers that learn the size of their
            input from the first images, which they get here.
        data: after ``setup("fit")``.

    Raises:
        UsageError: they do not; says which, and what to do.
        FailedError: code of the user's own has raised something.
    """
    with generators_put_back(trainer.strategy.root_device):
        try:
            copy = deepcopy(model)
        except Exception:  # whatever it is that it holds
            _Trial(trainer, model, data).look()
            return
        trainer.precision_plugin.convert_module(copy)  # in place
        trial = _Trial(trainer, copy, data)
        trial.look()
        trial.train()


class _Trial:
    def __init__(self, trainer: Trainer, model: ImageClassifier, data: CIFAR10DataModule) -> None:
        self._trainer, self._data = trainer, data
        self._model: Any = model.to(trainer.strategy.root_device)
        self._contract = Contract(model.net, model.loss, data.num_classes)
        self._logged = {"train/loss", "train/acc", "train/loss_epoch", "train/acc_epoch"}

    def look(self) -> None:
        """Validate a batch."""
        model = self._model
        training = model.training
        model.eval()
        validates = self._data.val_size is not None
        images, labels = self._batch(self._data.splits.validation if validates else None)
        with torch.no_grad():
            logits, loss = self._pass(images, labels)
            self._contract.check_finite(logits, loss)
            doubled = torch.tensor(0.0)
            with suppress(Exception):  # it may have reasons to take no other number of images
                doubled = model.training_loss(logits.repeat(2, 1), labels.repeat(2))
            self._contract.check_mean(loss, doubled)
            values = self._measure(loss, logits, labels)
        self._contract.say_hints(logits, self._data)
        model.train(training)
        if self._trainer.limit_val_batches and validates:
            self._logged |= values | {"gap/acc"}
            self._logged |= {f"val_acc/{name}" for name in self._data.source.class_names}
            self._logged |= set() if model.label_smoothing else {"gap/loss"}

    def _measure(self, loss: Tensor, logits: Tensor, labels: Tensor) -> set[str]:
        """Have the metrics measure a batch. Returns the names under which they are logged."""
        metrics = self._model.metrics
        metrics.reset(labels.device)
        for name, metric in metrics.more.items():  # one at a time, to know whose an error is
            with answered_about(f"--model.metrics {name}"):
                metric.update(logits.float().softmax(dim=1), labels)
                metric.compute()
        metrics.reset(labels.device)
        with answered_about("--model.metrics"):
            metrics.update(loss, logits, labels)
            values = metrics.compute("val/{}")
        metrics.reset(torch.device("cpu"))
        return set(values)

    def train(self) -> None:
        """Take a step, and the first and the last one of the schedule."""
        model, trainer = self._model.train(), self._trainer
        images, labels = self._batch(None)
        images_there = len(self._data.splits.training.indices)
        steps = steps_of_run(trainer, math.ceil(images_there / self._data.batch_size))
        self._contract.check_weights()
        with answered_about(_described(model, "optimizer")):
            model.new_optimizer(model.net)
        with answered_about(_described(model, "lr_scheduler")):
            configured = model.configure_optimizers(steps)
        plan = configured if isinstance(configured, dict) else {"optimizer": configured}
        optimizer: Optimizer = plan["optimizer"]
        self._logged.add(f"lr-{type(optimizer).__name__}")
        check_learning_rates(optimizer)

        def closure() -> Any:
            optimizer.zero_grad()
            _, loss = self._pass(images, labels)
            self._contract.check_gradient(loss)
            with answered_about(self._contract.net):
                loss.backward()
            self._contract.check_reached()
            return loss.detach()

        with answered_about(_described(model, "optimizer")):
            optimizer.step(closure)
        if (schedule := plan.get("lr_scheduler")) is not None:
            self._step(schedule, steps)
            name = type(schedule["scheduler"]).__name__
            check_validated(trainer, self._data, name, schedule.get("monitor", ""))
        check_monitors(trainer, plan.get("lr_scheduler"), self._logged)

    def _step(self, config: dict[str, Any], steps: float) -> None:
        scheduler = config["scheduler"]
        with answered_about(_described(self._model, "lr_scheduler")):
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(1.0)
                return
            scheduler.step()
            calls = steps if config["interval"] == "step" else self._trainer.max_epochs or 1
            if 1 < calls < math.inf:
                scheduler.last_epoch = int(calls) - 1
                scheduler.step()

    def _batch(self, subset: Subset | None) -> tuple[Tensor, Tensor]:
        """As many images as the last batch of an epoch has, the smallest that there is."""
        subset = subset or self._data.splits.training
        size = self._data.batch_size
        count = min(len(subset.indices) % size or size, _MOST_IMAGES)
        device = self._trainer.strategy.root_device
        taken = subset.take(slice(count))
        images, labels = self._data.prepare_batch(taken.images.to(device), taken.labels.to(device))
        return self._trainer.precision_plugin.convert_input(images), labels

    def _pass(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        contract, side = self._contract, images.shape[-1]
        with self._trainer.precision_plugin.forward_context():
            with answered_about(f"{contract.net} cannot take images of {side}×{side} pixels"):
                logits = self._logits(images)
            contract.check_logits(logits, len(images))
            given = logits.detach().clone(), labels.clone()
            cannot = f"{contract.loss} cannot take logits {shape(logits)} and as many labels"
            with answered_about(cannot):
                loss = self._model.training_loss(logits, labels)
        contract.check_unchanged(given, (logits.detach(), labels))
        contract.check_loss(loss)
        return logits, loss

    def _logits(self, images: Tensor) -> Any:
        try:
            return self._model(images)
        except RuntimeError as error:
            side, fits = images.shape[-1], getattr(self._model.net, "image_side", None)
            if fits in (None, side) or own_traceback(error) is not None:
                raise
            source = self._data.source
            scaled = "--data.source.resize" if hasattr(source, "resize") else "a source of"
            raise RuntimeError(
                f"it takes {fits}×{fits}; give {scaled} {fits}, or another network"
            ) from error


def check_learning_rates(optimizer: Optimizer) -> None:
    """Whether every learning rate is above 0. Raises UsageError."""
    for group in optimizer.param_groups:
        lr = float(group.get("initial_lr", group["lr"]))  # a schedule may begin at 0
        if not (math.isfinite(lr) and lr > 0):
            raise UsageError(f"--model.optimizer.lr {lr:g} must be a finite number above 0.")


def steps_of_run(trainer: Trainer, batches: int) -> float:
    """Optimizer steps of a run whose epochs have so many batches, as Lightning will count them."""
    limit = trainer.limit_train_batches
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    epochs = math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs
    steps = math.ceil(batches / trainer.accumulate_grad_batches) * epochs
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)


def materialise(model: ImageClassifier, data: CIFAR10DataModule) -> None:
    """Show the network an image if it has layers that take the size of their input from the first
    one that they see (``nn.LazyLinear``). Raises UsageError if it cannot take it."""
    if any(nn.parameter.is_lazy(p) for p in [*model.parameters(), *model.buffers()]):
        image = data.normalise(data.splits.training.take(slice(2)).images)
        with torch.no_grad(), answered_about(f"--model.net {type(model.net).__name__}"):
            training = model.net.training
            model.net.eval()(image)
            model.net.train(training)


def _described(model: ImageClassifier, part: str) -> str:
    """The option of a part, with its class and arguments as the command line gave them."""
    asked = model.hparams.get(part)
    if not isinstance(asked, dict):
        return f"--model.{part}"
    given = {k: v for k, v in asked.get("init_args", {}).items() if v is not None or k == "lr"}
    arguments = ", ".join(f"{k} {'null' if v is None else v}" for k, v in given.items())
    return f"--model.{part} {class_name(asked)}" + f" ({arguments})" * bool(arguments)
