"""What every source of images gives."""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cifar_lightning.errors import UserError

Split = Literal["train", "val", "test"]


class LabelledImages(NamedTuple):
    """One split of a data set."""

    images: Tensor
    """uint8, N×H×W×3."""
    labels: Tensor
    """int64, N: indices into the source's class names."""

    def to(self, device: torch.device) -> "LabelledImages":
        """Images and labels in the memory of a device."""
        return LabelledImages(self.images.to(device), self.labels.to(device))

    @property
    def fingerprint(self) -> str:
        """Changes when an image or a label does."""
        checksum = 0
        for values in self:
            checksum = zlib.crc32(values.cpu().numpy().data, checksum)
        return f"{len(self.labels)} images, crc32 {checksum:08x}"


class Source(ABC):
    """Finds images and labels; knows files, downloads and checksums and nothing of training."""

    splits: Sequence[Split] = ("train", "test")
    """Those that there are. A source with images of its own to validate on adds "val": then none
    are held out."""
    default_val_size: ClassVar[int | float] = 0.1
    """What is held out of the training images where nobody says: a number, or a share."""

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes; a label is an index into them."""

    def prepare(self) -> None:  # noqa: B027 (most sources have nothing to prepare)
        """Make ready what ``load`` needs on disk, by one process for all: a download, say."""

    @abstractmethod
    def load(self, split: Split) -> LabelledImages:
        """Read one split into memory; all have images of the same size.

        Raises:
            UserError: the images are not there or cannot be read; says what to do.
        """


class ClassNames(Source):
    """The names of classes and no images: what is needed of a data set to classify other pictures.

    Args:
        names: in the order of the labels.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._names

    def load(self, split: Split) -> LabelledImages:
        raise UserError("There are no images here, but the names of classes alone.")


def check_class_names(source: Source) -> tuple[str, ...]:
    """The names of a source's classes. Raises UserError: they are no names, or not distinct."""
    names: Any = source.class_names
    if not isinstance(names, tuple | list) or not names:
        raise UserError(f"{_name(source)}.class_names is {names!r}: it must be a tuple of strings.")
    for name in names:
        if not isinstance(name, str) or not name or not _is_text(name):
            raise UserError(
                f"{_name(source)}.class_names has {name!r} among its names: each must be a string "
                "of Unicode characters, and not empty."
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{_name(source)}.class_names has {twice!r} twice: rename one of them.")
    return tuple(names)


def read_split(source: Source, split: Split) -> LabelledImages:
    """Read a split from a source, and check that it is what ``Source.load`` must give.

    Arrays of NumPy and labels of other integer types are converted; nothing else is.

    Raises:
        UserError: names the source, the split and what is wrong with it.
    """
    classes = len(check_class_names(source))
    loaded: Any = source.load(split)
    gives = f'{_name(source)}.load("{split}") gives'
    if not isinstance(loaded, tuple | list) or len(loaded) != 2:
        raise UserError(f"{gives} {_described(loaded)}: it must give LabelledImages, two tensors.")
    images, labels = (_as_tensor(values) for values in loaded)
    if images is None or images.dtype != torch.uint8:
        raise UserError(
            f"{gives} images as {_described(loaded[0])}: they must be a tensor of uint8, from 0 to "
            "255 (what goes from 0 to 1 times 255, rounded)."
        )
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2] or 0 in shape[1:]:
        raise UserError(
            f"{gives} images of the shape {shape}: it must be N×H×W×3, channels last, with as many "
            "rows as columns."
        )
    if len(images) == 0:
        raise UserError(f"{gives} no images.")
    if labels is None or labels.is_floating_point() or labels.dtype == torch.bool:
        raise UserError(
            f"{gives} labels as {_described(loaded[1])}: they must be a tensor of int64, indices "
            "into class_names."
        )
    if labels.shape != images.shape[:1]:
        raise UserError(
            f"{gives} labels of the shape {tuple(labels.shape)} for {len(images):,} images: it "
            "must be one label for each."
        )
    for label in (int(labels.min()), int(labels.max())):
        if not 0 <= label < classes:
            raise UserError(
                f"{gives} the label {label}, but class_names has {classes} names: labels must go "
                f"from 0 to {classes - 1}."
            )
    # of what is already on the CPU, of this type and in this order nothing is copied
    return LabelledImages(images.cpu().contiguous(), labels.cpu().long().contiguous())


def _is_text(name: str) -> bool:
    """Whether a name can be written to a file; that of a folder may hold bytes that are no text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(source: Source) -> str:
    return type(source).__name__


def _as_tensor(values: Any) -> Tensor | None:
    """A tensor, sharing its memory with an array where that can be written to; None of others."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "iufb":
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        return torch.from_numpy(np.require(native, requirements=["C", "W"]))
    return values if isinstance(values, Tensor) and not values.is_complex() else None


def _described(value: Any) -> str:
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    if isinstance(value, tuple | list):
        return f"a {kind} of {len(value)}"
    return f"{kind} of {value.dtype}" if hasattr(value, "dtype") else f"a {kind}"
