"""A source, split and served in batches."""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from cifar_lightning.data.augmentation import Augmentation
from cifar_lightning.data.batches import Batches
from cifar_lightning.data.cifar10 import CIFAR10
from cifar_lightning.data.randomness import epoch_order, stratified_split
from cifar_lightning.data.source import LabelledImages, Source
from cifar_lightning.errors import UsageError


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
        ValueError: an argument is out of its range.
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
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(
                f"data.mean {list(mean)} and data.std {list(std)} must be three numbers each, "
                "one for each channel, those of std above 0"
            )
        for name, pixels in (("translate", translate), ("cutout", cutout)):
            if pixels < 0:
                raise ValueError(f"data.{name} {pixels} must be a number of pixels, 0 for none")
        self.source = source or CIFAR10()
        self.batch_size = batch_size
        self.val_size = val_size
        self.seed = seed
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.augmentation = Augmentation(flip, translate, cutout)
        # (x / 255 − mean) / std as one multiplication and one addition
        self._scale = 1 / (255 * torch.tensor(std))
        self._shift = -torch.tensor(mean) / torch.tensor(std)
        self.pictures: Tensor | None = None
        """What ``predict`` is about, uint8 N×H×W×3; the validation images if None."""
        self._train: LabelledImages | None = None
        self._test: LabelledImages | None = None

    @property
    def num_classes(self) -> int:
        return len(self.source.class_names)

    @property
    def validated_on(self) -> str:
        """Which images ``val/loss`` and ``val/acc`` are about."""
        return "held-out training images" if self.val_size else "the test split"

    @property
    def description(self) -> str:
        """How many images there are for what, in words; after ``setup("fit")``."""
        evaluation = self.val_dataloader()
        return (
            f"{self.num_classes} classes, training on {len(self._train_indices):,} images, "
            f"validating on {evaluation.images_per_epoch:,} "
            + ("held out of them" if self.val_size else "of the test split (as the article does)")
        )

    @property
    def fingerprint(self) -> str:
        """Changes when a training image or label does; after ``setup("fit")``."""
        assert self._train is not None
        checksum = 0
        for values in self._train:
            checksum = zlib.crc32(values.cpu().numpy().data, checksum)
        return f"{len(self._train.labels)} images, crc32 {checksum:08x}"

    @property
    def image_side(self) -> int:
        """Height and width of an image, in pixels; after ``setup("fit")``."""
        assert self._train is not None
        return self._train.images.shape[1]

    @property
    def training_split(self) -> LabelledImages:
        """The images to train on, copied, without those held out; after ``setup("fit")``."""
        assert self._train is not None
        return LabelledImages(*(values.cpu()[self._train_indices] for values in self._train))

    def validation_images(self, indices: Tensor) -> Tensor:
        """Images of the validation pass by their place in it: uint8 N×H×W×3, on the CPU."""
        if self.val_size == 0:
            assert self._test is not None
            return self._test.images[indices.to(self._test.images.device)].cpu()
        assert self._train is not None
        return self._train.images[self._val_indices[indices].to(self._train.images.device)].cpu()

    def prepare_data(self) -> None:
        if self.pictures is None:
            self.source.prepare()

    def setup(self, stage: str) -> None:
        if stage == "predict" and self.pictures is not None:
            return
        # the test split is read where it is asked for and nowhere else
        needs_test = stage == "test" or self.val_size == 0
        needs_train = stage == "fit" or (stage != "test" and self.val_size > 0)
        if needs_train and self._train is None:
            self._train = self.source.load("train")
        if needs_test and self._test is None:
            self._test = self.source.load("test")
        if needs_train:
            assert self._train is not None
            try:
                self._train_indices, self._val_indices = stratified_split(
                    self._train.labels, self.val_size, self.seed
                )
            except ValueError as error:
                raise UsageError(f"--data.val_size: {error}.") from error
            if stage == "fit" and self.batch_size > len(self._train_indices):
                raise UsageError(
                    f"--data.batch_size {self.batch_size} is more than the "
                    f"{len(self._train_indices):,} images to train on."
                )
            if stage == "fit" and self.augmentation.translate >= self.image_side:
                raise UsageError(
                    f"--data.translate {self.augmentation.translate} is more than images of "
                    f"{self.image_side} pixels have to reflect: it must be smaller."
                )

    def train_dataloader(self) -> Batches:
        self._to_gpu()
        return self.training_batches(self._position)

    def training_batches(self, position: Callable[[], tuple[int, int]] = lambda: (0, 0)) -> Batches:
        """The batches to train on, from (epoch, batch) on; without a trainer from the first."""
        assert self._train is not None
        indices, seed, side = self._train_indices, self.seed, self.image_side

        def order(epoch: int) -> Tensor:
            return indices[epoch_order(len(indices), seed, epoch)]

        def draws(epoch: int) -> Tensor:
            return self.augmentation.draws(len(indices), side, seed, epoch)

        return Batches(
            self._train,
            self.batch_size,
            order,
            position,
            draws if self.augmentation else None,
            self._process,
        )

    def val_dataloader(self) -> Batches:
        self._to_gpu()
        if self.val_size == 0:
            return self.test_dataloader()
        assert self._train is not None
        return self._in_order(self._train, self._val_indices)

    def test_dataloader(self) -> Batches:
        self._to_gpu()
        assert self._test is not None
        return self._in_order(self._test, torch.arange(len(self._test.labels)))

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
        if self.trainer is None or self.trainer.strategy.root_device.type != "cuda":
            return
        device = self.trainer.strategy.root_device
        if self._train is not None:
            self._train = LabelledImages(*(values.to(device) for values in self._train))
        if self._test is not None:
            self._test = LabelledImages(*(values.to(device) for values in self._test))

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

    def normalise(self, images: Tensor) -> Tensor:
        """Uint8 N×H×W×3 to float32 N×3×H×W, on the images' own device."""
        self._scale = self._scale.to(images.device)
        self._shift = self._shift.to(images.device)
        pixels = images.float().contiguous()
        # a row of pixels at a time: three channels alone are too short for a CPU's vectors
        width = pixels.shape[2]
        rows = pixels.view(-1, width * len(self._scale))
        rows.mul_(self._scale.repeat(width)).add_(self._shift.repeat(width))
        return pixels.permute(0, 3, 1, 2)

    def denormalise(self, images: Tensor) -> Tensor:
        """The pictures that a network sees: from N×3×H×W, normalised, to uint8 N×H×W×3."""
        pixels = (images.float().permute(0, 2, 3, 1) - self._shift) / self._scale
        return pixels.round().clamp(0, 255).byte()

    def _position(self) -> tuple[int, int]:
        """The next batch to train on, by the trainer's own progress: (epoch, batch)."""
        assert self.trainer is not None
        return self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_idx + 1
