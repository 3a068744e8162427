"""A source, split and served in batches."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pytorch_lightning import LightningDataModule, Trainer
from torch import Tensor

from cifar_lightning.data.augmentation import Augmentation
from cifar_lightning.data.batches import Batches
from cifar_lightning.data.cifar10 import CIFAR10
from cifar_lightning.data.generators import GlobalGenerators
from cifar_lightning.data.normalisation import Normalisation
from cifar_lightning.data.randomness import epoch_order
from cifar_lightning.data.source import LabelledImages, Source, check_class_names
from cifar_lightning.data.splits import Splits
from cifar_lightning.errors import UsageError
from cifar_lightning.lightning_internals import next_batch


class CIFAR10DataModule(LightningDataModule):
    """CIFAR-10, or any source of 32×32 images, held in memory and served in whole batches.

    A split is one uint8 tensor; batches are taken from it by index and normalised on the device.
    A batch is (images, labels): after the transfer float32 N×3×H×W and int64 N. Training images
    are augmented on the device, too; validation and test images never are. Where several processes
    share each batch out, a batch is (images, labels, number of images in the whole batch), and a
    process may have none of them.

    Args:
        source: where images and labels come from.
        batch_size: the global batch: images in an optimizer step, over all devices together.
        val_size: training images held out for validation, the same number from each class; 0
            validates on the test split, as the article does.
        seed: decides which images are held out and the order of every epoch.
        mean: subtracted from each channel, on the scale where pixels go from 0 to 1.
        std: each channel is divided by it after that.
        flip: mirror training images left to right, each with probability one half.
        translate: shift training images by up to so many pixels in each direction, reflected at
            the edge.
        cutout: blank a square of so many pixels in each training image.

    Raises:
        ValueError, TypeError: an argument is out of its range, or no source.
    """

    def __init__(
        self,
        source: Source | None = None,
        batch_size: int = 64,
        val_size: int = 5000,
        seed: int = 42,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        flip: bool = False,
        translate: int = 0,
        cutout: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"data.batch_size {batch_size} must be at least 1")
        for name, pixels in (("translate", translate), ("cutout", cutout)):
            if pixels < 0:
                raise ValueError(f"data.{name} {pixels} must be a number of pixels, 0 for none")
        self.source = CIFAR10() if source is None else source
        self.batch_size = batch_size
        self.val_size = val_size
        self.seed = seed
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.augmentation = Augmentation(flip, translate, cutout)
        self.normalise = Normalisation(mean, std)
        self.pictures: Tensor | None = None
        """What ``predict`` is about, uint8 N×H×W×3; the validation images if None."""
        self.splits = Splits(self.source, val_size, seed)
        self._generators = GlobalGenerators(seed)

    @property
    def num_classes(self) -> int:
        return len(check_class_names(self.source))

    @property
    def validated_on(self) -> str:
        """Which images ``val/loss`` and ``val/acc`` are about."""
        return "held-out training images" if self.val_size else "the test split"

    @property
    def fingerprint(self) -> str:
        """Changes when a training image or label does; after ``setup("fit")``."""
        return self.splits.training.data.fingerprint

    @property
    def image_side(self) -> int:
        """Height and width of an image, in pixels; after ``setup("fit")``."""
        return self.splits.training.data.images.shape[1]

    def prepare_data(self) -> None:
        if self.pictures is None:
            self.source.prepare()

    def setup(self, stage: str) -> None:
        if self.trainer is not None and self._generators not in self.trainer.callbacks:
            self.trainer.callbacks.insert(0, self._generators)
        if stage == "predict" and self.pictures is not None:
            return
        self.splits.load(stage)
        if stage != "fit":
            return
        images = len(self.splits.training.indices)
        if self.batch_size > images:
            raise UsageError(
                f"--data.batch_size {self.batch_size} is more than the {images:,} images to train "
                "on."
            )
        self.augmentation.check(self.image_side)

    def train_dataloader(self) -> Batches:
        self._to_gpu()
        return self.training_batches(self._position)

    def training_batches(self, position: Callable[[], tuple[int, int]] = lambda: (0, 0)) -> Batches:
        """The batches to train on, from (epoch, batch) on; without a trainer from the first."""
        data, indices = self.splits.training
        seed, side = self.seed, self.image_side

        def order(epoch: int) -> Tensor:
            return indices[epoch_order(len(indices), seed, _ordered_as(self.trainer, epoch))]

        def draws(epoch: int) -> Tensor:
            return self.augmentation.draws(len(indices), side, seed, epoch)

        augmented = draws if self.augmentation else None
        return Batches(data, self.batch_size, order, position, augmented, self._process)

    def val_dataloader(self) -> Batches:
        self._to_gpu()
        return self._in_order(*self.splits.validation)

    def test_dataloader(self) -> Batches:
        self._to_gpu()
        return self._in_order(*self.splits.test)

    def predict_dataloader(self) -> Batches:
        if self.pictures is None:
            return self.val_dataloader()
        everything = torch.arange(len(self.pictures))
        unlabelled = LabelledImages(self.pictures, torch.full_like(everything, -1))
        return self._in_order(unlabelled, everything)

    def _in_order(self, images: LabelledImages, indices: Tensor) -> Batches:
        return Batches(images, self.batch_size, lambda epoch: indices, process=self._process)

    @property
    def _process(self) -> tuple[int, int]:
        return (
            (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        )

    def _to_gpu(self) -> None:
        """A GPU keeps the splits in its own memory: an epoch copies its order there, no images."""
        if self.trainer is not None and self.trainer.strategy.root_device.type == "cuda":
            self.splits.to(self.trainer.strategy.root_device)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer is not None:
            self._generators.before_batch(self.trainer)
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[Any, ...]:
        images, labels = self.prepare_batch(*batch[:3])
        if self.trainer is not None:  # "16-true" and its like; Lightning converts before this
            images = self.trainer.precision_plugin.convert_input(images)
        return images, labels, *batch[3:]

    def prepare_batch(
        self, images: Tensor, labels: Tensor, draws: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What a network is given of a batch, on the batch's own device.

        Args:
            images: uint8 N×H×W×3.
            labels: int64 N.
            draws: int32 N×5, what is to happen to training images.

        Returns:
            images, float32 N×3×H×W, and labels.
        """
        if draws is None:
            return self.normalise(images), labels
        moved = self.normalise(self.augmentation.move(images, draws))
        return self.augmentation.blank(moved, draws), labels

    def _position(self) -> tuple[int, int]:
        """The next batch to train on, by the trainer's own progress: (epoch, batch)."""
        assert self.trainer is not None
        return next_batch(self.trainer)


def _ordered_as(trainer: Trainer | None, epoch: int) -> int:
    """The epoch whose order an epoch has: the first, if the same batches are to be overfitted."""
    return 0 if trainer is not None and trainer.overfit_batches > 0 else epoch
