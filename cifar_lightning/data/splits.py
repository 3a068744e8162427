"""What a source's images are for: training, validation, test."""

from typing import NamedTuple

import torch
from torch import Tensor

from cifar_lightning.data.randomness import stratified_split
from cifar_lightning.data.source import LabelledImages, Source, read_split
from cifar_lightning.errors import UsageError, UserError


class Subset(NamedTuple):
    """Some of the images of a split."""

    data: LabelledImages
    indices: Tensor
    """int64, on the CPU."""

    def take(self, places: Tensor | slice = slice(None)) -> LabelledImages:
        """A copy of the images at these places of the subset, on the CPU; all by default."""
        indices = self.indices[places].to(self.data.images.device)
        return LabelledImages(*(values[indices].cpu() for values in self.data))


class Splits:
    """Reads the splits that are asked for, and holds out training images for validation.

    Args:
        source: where images and labels come from.
        val_size: how many training images are held out; 0 validates on the test split.
        seed: decides which.

    Raises:
        TypeError: the source is none.
    """

    def __init__(self, source: Source, val_size: int, seed: int) -> None:
        if not isinstance(source, Source):
            kind = source.__name__ if isinstance(source, type) else f"a {type(source).__name__}"
            raise TypeError(f"data.source is {kind}, but must be a Source, such as CIFAR10()")
        self._source = source
        self._val_size = val_size
        self._seed = seed
        self._train: LabelledImages | None = None
        self._test: LabelledImages | None = None

    def load(self, stage: str) -> None:
        """Read what ``fit``, ``validate``, ``test`` or ``predict`` needs, and nothing else: the
        test split is read where it is asked for alone.

        Raises:
            UserError: the images are not there, cannot be read or are not what they must be.
            UsageError: so many images cannot be held out.
        """
        if self._train is None and (stage == "fit" or (stage != "test" and self._val_size)):
            train = read_split(self._source, "train")
            try:
                self._for_training, self._held_out = stratified_split(
                    train.labels, self._val_size, self._seed
                )
            except ValueError as error:
                raise UsageError(f"--data.val_size: {error}.") from error
            self._train = train
        if self._test is None and (stage == "test" or self._val_size == 0):
            self._test = read_split(self._source, "test")
        if self._train is not None and self._test is not None:
            self._check_same_size(self._train, self._test)

    def _check_same_size(self, train: LabelledImages, test: LabelledImages) -> None:
        sides = train.images.shape[1], test.images.shape[1]
        if sides[0] != sides[1]:
            raise UserError(
                f"{type(self._source).__name__} gives images of {sides[0]} pixels a side to train "
                f"on and of {sides[1]} in the test split: both must have the same size."
            )

    @property
    def description(self) -> str:
        """How many images there are for what, in words."""
        training, validation = (len(s.indices) for s in (self.training, self.validation))
        return (
            f"{len(self._source.class_names)} classes, training on {training:,} images, "
            f"validating on {validation:,} "
            + ("held out of them" if self._val_size else "of the test split (as the article does)")
        )

    def to(self, device: torch.device) -> None:
        """Move what was read into the memory of a device."""
        self._train = self._train and self._train.to(device)
        self._test = self._test and self._test.to(device)

    @property
    def training(self) -> Subset:
        """What is trained on."""
        assert self._train is not None
        return Subset(self._train, self._for_training)

    @property
    def validation(self) -> Subset:
        """What is validated on."""
        if self._val_size == 0:
            return self.test
        assert self._train is not None
        return Subset(self._train, self._held_out)

    @property
    def test(self) -> Subset:
        """The test split."""
        assert self._test is not None
        return Subset(self._test, torch.arange(len(self._test.labels)))
