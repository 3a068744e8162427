"""The data sets of torchvision."""

import difflib
import inspect
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from cifar_lightning.data.filling import filling
from cifar_lightning.data.pictures import read_all
from cifar_lightning.data.source import LabelledImages, Source, Split
from cifar_lightning.errors import UserError, local_path

log = logging.getLogger(__name__)

_PATIENCE = 15.0  # seconds without an answer; torchvision would wait for ever

Arguments = dict[Split, dict[str, Any]]
"""Those that make each split."""

_BY_TRAIN: Arguments = {"train": {"train": True}, "test": {"train": False}}
_TWO: Arguments = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE: Arguments = {**_TWO, "val": {"split": "val"}}

# Those with a training and a test split of images that have one label each.
_DATA_SETS: dict[str, Arguments] = {
    **dict.fromkeys(("CIFAR10", "CIFAR100", "EMNIST", "FashionMNIST"), _BY_TRAIN),
    **dict.fromkeys(("KMNIST", "MNIST", "USPS"), _BY_TRAIN),
    **dict.fromkeys(("Food101", "GTSRB", "StanfordCars", "STL10", "SVHN"), _TWO),
    **dict.fromkeys(("DTD", "FGVCAircraft", "Flowers102", "PCAM", "RenderedSST2"), _THREE),
    "Country211": {**_TWO, "val": {"split": "valid"}},
    "OxfordIIITPet": {**_TWO, "train": {"split": "trainval"}},
}


class Torchvision(Source):
    """A data set of ``torchvision.datasets`` with a training and a test split; greyscale becomes
    RGB. Where it has a validation split, that is validated on.

    What is in ``root``, in torchvision's own layout, is used; else torchvision fetches it.

    Args:
        name: of the data set: CIFAR100, MNIST, SVHN and so on.
        root: the folder that holds the data or shall hold it.
        resize: cut each image to the square in its middle, and scale it to so many pixels a side;
            without it all must be square and have the same size.
        options: further arguments of torchvision's class, such as ``split: letters`` of EMNIST.

    Raises:
        ValueError: there is no such data set, or it takes other options.
    """

    def __init__(
        self,
        name: str,
        root: Path = Path("data"),
        resize: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        if name not in _DATA_SETS:
            close = difflib.get_close_matches(name, _DATA_SETS, n=1)
            meant = f"did you mean {close[0]}? T" if close else "t"
            raise ValueError(
                f"data.source.name {name}: {meant}here are {', '.join(sorted(_DATA_SETS))}, the "
                "data sets of torchvision that have a training and a test split of images with a "
                "label each"
            )
        if resize is not None and resize < 1:
            raise ValueError(f"data.source.resize {resize} must be at least 1")
        self.name = name
        self.root = local_path(root, "--data.source.root")
        self.resize = resize
        self.options = dict(options or {})
        self.splits = tuple(_DATA_SETS[name])
        self._opened: dict[Split, Any] = {}
        try:
            inspect.signature(self._class).bind("", **self._arguments("train"))
        except TypeError as error:
            raise ValueError(f"data.source.options {self.options}: {name} has {error}") from error

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self._classes.values())

    def prepare(self) -> None:
        self._open("train")

    def load(self, split: Split) -> LabelledImages:
        classes = {label: number for number, label in enumerate(self._classes)}
        data_set = self._open(split)
        labels = []

        def picture(number: int) -> Any:
            image, label = data_set[number]
            labels.append(int(label))
            return image.convert("RGB")

        names = [f"Image {number} of {self.name} ({split})" for number in range(len(data_set))]
        with self._said():
            images = read_all(names, picture, self.resize)
        del self._opened[split]  # what it holds in memory is copied
        if unknown := set(labels) - classes.keys():
            raise UserError(f"{self.name}: no training image has the label {min(unknown)}.")
        numbers = torch.tensor([classes[label] for label in labels])
        return LabelledImages(torch.from_numpy(images), numbers)

    @cached_property
    def _classes(self) -> dict[int, str]:
        """The labels that training images have, in rising order, with their names."""
        data_set = self._open("train")
        names = getattr(data_set, "classes", None)
        labels = getattr(data_set, "targets", getattr(data_set, "labels", None))
        if labels is None:  # these read an image together with its label
            all_labels = (data_set[number][1] for number in range(len(data_set)))
            labels = all_labels if names is None else range(len(names))
        with self._said():
            known = sorted({int(label) for label in labels})
        return {label: str(names[label] if names else label) for label in known}

    @property
    def _class(self) -> Any:
        import torchvision  # takes a while, and only this source needs it

        return getattr(torchvision.datasets, self.name)

    def _arguments(self, split: Split) -> dict[str, Any]:
        return {**_DATA_SETS[self.name][split], **self.options}

    def _open(self, split: Split) -> Any:
        """torchvision's data set, fetched if it is not there. Raises UserError."""
        if split not in self._opened:
            with self._said():
                try:
                    self._opened[split] = self._class(self.root, **self._arguments(split))
                except (RuntimeError, FileNotFoundError):  # not there, or damaged
                    self._fetch()
                    self._opened[split] = self._class(self.root, **self._arguments(split))
        return self._opened[split]

    def _fetch(self) -> None:
        patience = socket.getdefaulttimeout()
        with filling(self.root, f".{self.name}.lock"):  # of several processes one fetches
            log.info("torchvision puts %s into %s", self.name, self.root)
            socket.setdefaulttimeout(_PATIENCE)
            try:
                for split in self.splits:
                    self._class(self.root, download=True, **self._arguments(split))
            finally:
                socket.setdefaulttimeout(patience)

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Whatever torchvision raises, in a sentence."""
        try:
            yield
        except UserError:
            raise
        except ImportError as error:
            raise UserError(f"{self.name} needs {error.name}: pip install {error.name}.") from error
        except Exception as error:  # a damaged file raises anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"{self.name} cannot be read from {self.root} ({reason}): put its files there as "
                "torchvision lays them out, or give another --data.source.root."
            ) from error
