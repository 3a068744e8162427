"""What a source's images are for: training, validation, test."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from cifar_lightning.data.randomness import stratified_split
from cifar_lightning.data.source import LabelledImages, Source, Split, read_split
from cifar_lightning.errors import UsageError, UserError, counted

ValSize = int | float | Literal["auto"] | None


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
        val_size: how many training images are held out, or which share of them; 0 validates on the
            test split, None on nothing; "auto" on the source's own images for that, or else on as
            many held out as the source says.
        seed: decides which.

    Raises:
        TypeError: the source is none.
        ValueError: ``val_size`` is no such number.
    """

    def __init__(self, source: Source, val_size: ValSize, seed: int) -> None:
        if not isinstance(source, Source):
            kind = source.__name__ if isinstance(source, type) else f"a {type(source).__name__}"
            raise TypeError(f"data.source is {kind}, but must be a Source, such as CIFAR10()")
        _check_val_size(val_size)
        self._source = source
        own = "val" in source.splits
        by_default = val_size == "auto" and not own
        self.val_size: ValSize = source.default_val_size if by_default else val_size
        """As asked for; "auto" is left only where the source has images of its own to validate on.
        """
        self._passes_over_own = own and self.val_size not in ("auto", None)
        self._seed = seed
        self._read: dict[Split, LabelledImages] = {}

    def load(self, stage: str) -> None:
        """Read what ``fit``, ``validate``, ``test`` or ``predict`` needs, and nothing else: the
        test split is read where it is asked for alone.

        Raises:
            UserError: the images are not there, cannot be read or are not what they must be.
            UsageError: so many images cannot be held out.
        """
        needed: list[Split] = ["train"] if stage == "fit" else []
        needed.append("test" if stage == "test" else self._validated_on)
        for split in needed:
            if split not in self._read:
                read = read_split(self._source, split)
                if split == "train":
                    self._hold_out(read.labels)
                self._read[split] = read
        self._check_same_size()

    def check_own(self) -> None:
        """Whether images to validate on are not asked for beside the source's own. Raises
        UsageError."""
        if self._passes_over_own:
            raise UsageError(
                f"--data.val_size {self.val_size}: {type(self._source).__name__} has a validation "
                "split of its own; leave the option out, or move that split elsewhere."
            )

    def check_validates(self) -> None:
        """Whether there are images to validate on. Raises UsageError."""
        if self.val_size is None:
            raise UsageError("--data.val_size null: there are no images to validate on.")

    @property
    def _validated_on(self) -> Split:
        """The split that the validation images are of."""
        return "val" if self.val_size == "auto" else "test" if self.val_size == 0 else "train"

    def _hold_out(self, labels: Tensor) -> None:
        size = self.val_size if isinstance(self.val_size, int | float) and self.val_size else 0
        try:
            self._for_training, self._held_out = stratified_split(labels, size, self._seed)
        except ValueError as error:
            raise UsageError(
                f"--data.val_size {size}: {error}; null validates on nothing, 0 on the test images."
            ) from error

    def _check_same_size(self) -> None:
        sides = {split: read.images.shape[1] for split, read in self._read.items()}
        for split, side in sides.items():
            if side != (first := sides.get("train", side)):
                what = {"test": "test", "val": "validation"}[split]
                raise UserError(
                    f"{type(self._source).__name__} gives images of {first} pixels a side to train "
                    f"on and of {side} in the {what} split: both must have the same size."
                )

    @property
    def description(self) -> str:
        """How many images there are for what, in words."""
        classes = counted(len(self._source.class_names), "class")
        words = f"{classes}, training on {counted(len(self.training.indices), 'image')}, "
        if self.val_size is None:
            return words + "validating on none"
        where = {
            "train": "held out of them",
            "val": "of the validation split",
            "test": "of the test split (as the article does)",
        }
        return words + (
            f"validating on {len(self.validation.indices):,} {where[self._validated_on]}"
        )

    @property
    def validated_on(self) -> str | None:
        """Which images the validation images are, in words; None without validation."""
        if self.val_size is None:
            return None
        words = {"train": "held-out training images", "val": "the validation split"}
        return words.get(self._validated_on, "the test split")

    @property
    def fingerprint(self) -> str:
        """Changes when a training image or label does, or one of the source's own validation split
        where that is used; after ``load("fit")``."""
        fingerprint = self._read["train"].fingerprint
        if self.val_size == "auto":
            fingerprint += f"; validation: {self._read['val'].fingerprint}"
        return fingerprint

    def to(self, device: torch.device) -> None:
        """Move what was read into the memory of a device."""
        self._read = {split: read.to(device) for split, read in self._read.items()}

    def bytes_outside(self, device: torch.device) -> int:
        """How much more of a device's memory ``to`` would take."""
        tensors = [values for read in self._read.values() for values in read]
        return sum(values.nbytes for values in tensors if values.device != device)

    @property
    def training(self) -> Subset:
        """What is trained on."""
        return Subset(self._read["train"], self._for_training)

    @property
    def validation(self) -> Subset:
        """What is validated on.

        Raises:
            UsageError: nothing is.
        """
        self.check_validates()
        if self._validated_on == "train":
            return Subset(self._read["train"], self._held_out)
        return self._whole(self._validated_on)

    @property
    def test(self) -> Subset:
        """The test split."""
        return self._whole("test")

    def _whole(self, split: Split) -> Subset:
        return Subset(self._read[split], torch.arange(len(self._read[split].labels)))


def _check_val_size(val_size: object) -> None:
    """Raises ValueError."""
    if val_size is None or val_size == "auto":
        return
    whole = isinstance(val_size, int) and not isinstance(val_size, bool) and val_size >= 0
    share = isinstance(val_size, float) and math.isfinite(val_size) and 0 <= val_size < 1
    if not (whole or share):
        raise ValueError(
            f"data.val_size {val_size} must be a number of images, a share below 1, auto, or null "
            "for no validation"
        )
