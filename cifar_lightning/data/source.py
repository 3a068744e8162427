"""What every source of images gives."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor

from cifar_lightning.errors import UserError

Split = Literal["train", "test"]


class LabelledImages(NamedTuple):
    """One split of a data set."""

    images: Tensor
    """uint8, N×H×W×3."""
    labels: Tensor
    """int64, N: indices into the source's class names."""


class Source(ABC):
    """Finds images and labels; knows files, downloads and checksums and nothing of training."""

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes; a label is an index into them."""

    def prepare(self) -> None:  # noqa: B027 (most sources have nothing to prepare)
        """Make ready what ``load`` needs on disk, by one process for all: a download, say."""

    @abstractmethod
    def load(self, split: Split) -> LabelledImages:
        """Read one split into memory.

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
