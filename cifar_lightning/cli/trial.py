"""A step and a validation batch on copies, before a run has a folder.

What a network, a loss, an optimizer, a schedule or a metric of anybody's would raise in the run is
raised here, and answered. The run itself is not touched: copies are trained, on images that are
read beside it, without its loggers and callbacks, and the global generators are put back.
"""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from cifar_lightning.classifier import ImageClassifier
from cifar_lightning.cli.checks import check_validated
from cifar_lightning.cli.monitors import check_monitors
from cifar_lightning.data import CIFAR10DataModule
from cifar_lightning.data.splits import Subset
from cifar_lightning.errors import FailedError, UsageError, UserError, own_traceback, words
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
    with _generators_put_back(trainer.strategy.root_device):
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
        self._net = f"--model.net {type(model.net).__name__}"
        self._loss = f"--model.loss {type(model.loss).__name__}"
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
            if not loss.isfinite():
                finite = bool(logits.isfinite().all())
                raise UsageError(
                    f"{self._loss if finite else self._net} gives numbers that are not finite, "
                    "before the first step: something in it divides by 0, overflows or takes the "
                    "logarithm of 0."
                )
            self._check_mean(loss, logits, labels)
            with _answered("--model.metrics"):
                model.metrics.reset(images.device)
                model.metrics.update(loss, logits, labels)
                values = model.metrics.compute("val/{}")
        model.metrics.reset(torch.device("cpu"))
        model.train(training)
        if self._trainer.limit_val_batches and validates:
            self._logged |= values.keys() | {"gap/acc"}
            self._logged |= {f"val_acc/{name}" for name in self._data.source.class_names}
            self._logged |= set() if model.label_smoothing else {"gap/loss"}

    def train(self) -> None:
        """Take a step, and the first and the last one of the schedule."""
        model, trainer = self._model.train(), self._trainer
        images, labels = self._batch(None)
        images_there = len(self._data.splits.training.indices)
        steps = steps_of_run(trainer, math.ceil(images_there / self._data.batch_size))
        with _answered(_described(model, "optimizer")):
            model.new_optimizer(model.net)
        with _answered(_described(model, "lr_scheduler")):
            configured = model.configure_optimizers(steps)
        plan = configured if isinstance(configured, dict) else {"optimizer": configured}
        optimizer: Optimizer = plan["optimizer"]
        self._logged.add(f"lr-{type(optimizer).__name__}")
        check_learning_rates(optimizer)

        def closure() -> Any:
            optimizer.zero_grad()
            _, loss = self._pass(images, labels)
            self._check_gradient(loss)
            with _answered(self._net):
                loss.backward()
            return loss.detach()

        with _answered(_described(model, "optimizer")):
            optimizer.step(closure)
        if (schedule := plan.get("lr_scheduler")) is not None:
            self._step(schedule, steps)
            name = type(schedule["scheduler"]).__name__
            check_validated(trainer, self._data, name, schedule.get("monitor", ""))
        check_monitors(trainer, plan.get("lr_scheduler"), self._logged)

    def _step(self, config: dict[str, Any], steps: float) -> None:
        scheduler = config["scheduler"]
        with _answered(_described(self._model, "lr_scheduler")):
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
        model, classes = self._model, self._data.num_classes
        with self._trainer.precision_plugin.forward_context():
            side = images.shape[-1]
            with _answered(f"{self._net} cannot take images of {side}×{side} pixels"):
                logits = self._logits(images)
            if not isinstance(logits, Tensor):
                raise UsageError(
                    f"{self._net} returns a {type(logits).__name__} in "
                    f"{'training' if model.training else 'evaluation'}: it must return one tensor, "
                    f"logits N×{classes}."
                )
            if logits.shape != (len(images), classes):
                raise UsageError(
                    f"{self._net} gives {_shape(logits)} for {len(images)} images: it must give "
                    f"{len(images)}×{classes}, as the data have {classes} classes."
                )
            given = logits.detach().clone(), labels.clone()
            with _answered(f"{self._loss} cannot take logits {_shape(logits)} and as many labels"):
                loss = model.training_loss(logits, labels)
        if not all(map(_equal, given, (logits.detach(), labels))):
            raise UsageError(
                f"{self._loss} changes logits or labels in place, by which accuracy is counted: "
                "have it work on a copy (clone)."
            )
        if not isinstance(loss, Tensor):
            raise UsageError(
                f"{self._loss} returns a {type(loss).__name__}: it must return a tensor, the mean "
                "over the images."
            )
        if loss.numel() != 1:
            raise UsageError(
                f"{self._loss} returns {_shape(loss)} numbers: it must return one, the mean over "
                "the images."
            )
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

    def _check_mean(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """A sum is twice as large where every image is there twice."""
        doubled = torch.tensor(0.0)
        with suppress(Exception):  # it may have reasons to take no other number of images
            doubled = self._model.training_loss(logits.repeat(2, 1), labels.repeat(2))
        if loss and math.isclose(float(doubled), 2 * float(loss), rel_tol=1e-3):
            raise UsageError(
                f"{self._loss} returns a sum over the images: it must return their mean, which "
                "does not depend on how many there are in a batch."
            )

    def _check_gradient(self, loss: Tensor) -> None:
        if loss.requires_grad:
            return
        if not any(p.requires_grad for p in self._model.net.parameters()):
            raise UsageError(f"{self._net} has no weights that can be trained.")
        raise UsageError(
            f"{self._loss} returns a number without a gradient: something in it, or in the network,"
            " detaches it (detach, item, no_grad, argmax)."
        )


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
        with torch.no_grad(), _answered(f"--model.net {type(model.net).__name__}"):
            training = model.net.training
            model.net.eval()(image)
            model.net.train(training)


@contextmanager
def _answered(about: str) -> Iterator[None]:
    """Answer whatever is raised here: what was going on, and what the exception says."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if own_traceback(error) is not None:
            raise FailedError(error, about) from error
        said = words(error) or type(error).__name__
        if "not supported between instances of" in said:
            said = "an argument is of the wrong kind"
        raise UsageError(f"{about}: {said}") from error


@contextmanager
def _generators_put_back(device: torch.device) -> Iterator[None]:
    ours, numpys = random.getstate(), np.random.get_state()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(ours)
        np.random.set_state(numpys)


def _described(model: ImageClassifier, part: str) -> str:
    """The option of a part, with its class and arguments as the command line gave them."""
    asked = model.hparams.get(part)
    if not isinstance(asked, dict):
        return f"--model.{part}"
    given = {k: v for k, v in asked.get("init_args", {}).items() if v is not None or k == "lr"}
    arguments = ", ".join(f"{k} {'null' if v is None else v}" for k, v in given.items())
    return f"--model.{part} {class_name(asked)}" + f" ({arguments})" * bool(arguments)


def _equal(before: Tensor, after: Tensor) -> bool:
    return torch.equal(before.nan_to_num(), after.nan_to_num())


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "one number"
