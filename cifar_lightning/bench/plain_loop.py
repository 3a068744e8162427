"""The same training in plain PyTorch: what `bench` holds Lightning against."""

import copy
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice

import torch
from PIL import Image
from pytorch_lightning import Trainer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from cifar_lightning.bench.limit import WARM_UP, Limit
from cifar_lightning.classifier import ImageClassifier
from cifar_lightning.data import CIFAR10DataModule
from cifar_lightning.meter import LossAccuracyMeter


class PlainLoop:
    """Loops over the data of a data module, with the network and optimizer of a classifier.

    Args:
        model: is left as it is; each loop trains a copy.
        data: after ``setup("fit")``.
        trainer: says device and precision.
    """

    def __init__(self, model: ImageClassifier, data: CIFAR10DataModule, trainer: Trainer) -> None:
        self._model = model
        self._data = data
        self._precision = trainer.precision_plugin
        self._device = trainer.strategy.root_device

    def limit(self) -> Limit:
        """The fastest step of plain PyTorch, on a few batches that are on the device already."""
        first = islice(self._data.train_dataloader().pixels(0), 8)
        return Limit(
            self._model.net,
            self._model.new_optimizer,
            self._model.training_loss,
            [self._prepared(batch) for batch in first],
            self._precision.precision,
            self._model.computing.compile_mode,
        )

    def article(self, steps: int, workers: int) -> float:
        """Seconds a step of the article's loop: a PIL image at a time, ``ToTensor``,
        ``Normalize``, a shuffling ``DataLoader``, running loss and accuracy by ``.item()``."""
        net, optimizer = self._fresh()
        loader = DataLoader(
            _OneByOne(self._data),
            batch_size=self._data.batch_size,
            shuffle=True,
            num_workers=workers,
            pin_memory=self._device.type == "cuda",
        )
        endless = (batch for _ in cycle([None]) for batch in loader)
        running_loss, right, start = 0.0, 0.0, 0.0
        for number, (images, labels) in enumerate(islice(endless, WARM_UP + steps)):
            if number == WARM_UP:
                start = self._now()
            images, labels = images.to(self._device), labels.to(self._device)
            loss, logits = self._step(net, optimizer, images, labels)
            running_loss += loss.item()
            right += (logits.argmax(1) == labels).sum().item()
        return (self._now() - start) / steps

    def best_workers(self) -> int:
        """The number of loader processes with which the article's loop is fastest here."""
        candidates = sorted({0, 1, 2, min(4, os.cpu_count() or 1)})
        return min(candidates, key=lambda workers: self.article(30, workers))

    def anatomy(self, steps: int) -> dict[str, float]:
        """Median seconds of each part of a step of ours, each waited for."""
        net, optimizer = self._fresh()
        meter = LossAccuracyMeter()
        meter.to(self._device)
        spent: dict[str, list[float]] = defaultdict(list)

        @contextmanager
        def timed(name: str) -> Iterator[None]:
            start = self._now()
            yield
            spent[name].append(self._now() - start)

        self._data.splits.to(self._device)  # as training does
        batches = self._data.train_dataloader()
        loader = (batch for _ in cycle([None]) for batch in batches.pixels(0))
        for _ in range(WARM_UP + steps):
            with timed("data"):
                batch = next(loader)
            with timed("transfer"):
                batch = tuple(part.to(self._device) for part in batch)
            with timed("augmentation, normalisation"):
                images, labels = self._data.prepare_batch(*batch)
            with timed("forward"), self._precision.forward_context():
                logits = net(images)
                loss = self._model.training_loss(logits, labels)
            with timed("backward"):
                optimizer.zero_grad()
                loss.backward()
            with timed("optimizer"):
                optimizer.step()
            with timed("metrics"):
                meter.update(loss.detach(), logits.detach(), labels)
        return {name: statistics.median(values[WARM_UP:]) for name, values in spent.items()}

    def _prepared(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return self._data.prepare_batch(*(part.to(self._device) for part in batch))

    def _fresh(self) -> tuple[nn.Module, Optimizer]:
        net = copy.deepcopy(self._model.net).to(self._device).train()
        if self._model.computing.compile_mode is not None:
            net.compile(mode=self._model.computing.compile_mode)
        return net, self._model.new_optimizer(net)

    def _step(
        self, net: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        with self._precision.forward_context():
            logits: Tensor = net(images)
            loss = self._model.training_loss(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss, logits

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


class _OneByOne(Dataset[tuple[Tensor, int]]):
    """As torchvision's CIFAR10 gives them: one picture at a time."""

    def __init__(self, data: CIFAR10DataModule) -> None:
        images, labels = data.splits.training.take()
        self._images = images.numpy()
        self._labels = labels.tolist()
        self._transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._images[index])), self._labels[index]
