"""A source, split and served in batches."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from pytorch_lightning import LightningDataModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from cifar_lightning.data.augmentation import Augmentation, Flip
from cifar_lightning.data.batches import Batches, Epochs, Prepared, at_work
from cifar_lightning.data.cifar10 import CIFAR10
from cifar_lightning.data.forms import are_pixels, as_taken
from cifar_lightning.data.generators import GlobalGenerators
from cifar_lightning.data.normalisation import Normalisation
from cifar_lightning.data.randomness import epoch_order
from cifar_lightning.data.source import LabelledImages, Source, check_class_names
from cifar_lightning.data.splits import Splits, ValSize
from cifar_lightning.errors import UsageError

log = logging.getLogger(__name__)


class CIFAR10DataModule(LightningDataModule):
    """CIFAR-10, or any source of square images, held in memory and served in whole batches.

    A split is one uint8 tensor; batches are taken from it by index, and a trainer has them
    augmented and normalised on the device. A batch is (images, labels), float32 N×3×H×W and int64
    N, from whomever it comes: a trainer that was given the data module, one that was given its
    loaders, or a loop by hand. Training images are augmented, validation and test images never are.
    Without a trainer each pass over a training loader is the next epoch, from epoch 0 on, in an
    order of its own; splits are prepared and read when a loader of theirs is asked for.

    Several processes share each batch out if their trainer was given the data module: see
    ``cifar_lightning.data.batches.Share``.

    Args:
        source: where images and labels come from.
        batch_size: the global batch: images in an optimizer step, over all devices together.
        val_size: training images held out for validation, as many of each class as it goes, or a
            share of each; for 0 the test split, None nothing, "auto" what the source has or says.
        seed: decides which images are held out and the order of every epoch.
        mean, std: a channel, in which pixels go from 0 to 1, becomes (channel - mean) / std.
        flip: mirror training images: True, at random; "alternating", in every other epoch.
        translate: shift them by up to so many pixels in each direction, reflected at the edge.
        cutout: blank a square of so many pixels in each of them.
        jitter: change their brightness, contrast and saturation by up to this share of them.

    Raises:
        ValueError, TypeError: an argument is out of its range, or no source.
    """

    def __init__(
        self,
        source: Source | None = None,
        batch_size: int = 64,
        val_size: ValSize = "auto",
        seed: int = 42,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        flip: Flip = False,
        translate: int = 0,
        cutout: int = 0,
        jitter: float = 0.0,
    ) -> None:
        super().__init__()
        _check_numbers(batch_size=batch_size, seed=seed)
        self.source = CIFAR10() if source is None else source
        self.batch_size = batch_size
        self.seed = seed
        self.normalise = Normalisation(mean, std)
        self.mean, self.std = tuple(mean), tuple(std)
        self.augmentation = Augmentation(flip, translate, cutout, jitter)
        self.pictures: Tensor | None = None
        """What ``predict`` is about, uint8 N×H×W×3; the validation images if None."""
        self.splits = Splits(self.source, val_size, seed)
        self.val_size = self.splits.val_size  # no longer "auto", if the source has none of its own
        self._generators = GlobalGenerators(seed)
        self._epochs = Epochs()
        self._set_up: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "trainer": None}  # whose a copy is not

    @classmethod
    def load_from_checkpoint(cls, *_: Any, **__: Any) -> Any:
        """Refused: Lightning's would give the defaults. Raises UsageError."""
        raise UsageError("A checkpoint holds no data module: make it anew, as config.yaml has it.")

    def __str__(self) -> str:  # Lightning's own goes through all loaders
        return f"{type(self).__name__} of {type(self.source).__name__}"

    @property
    def num_classes(self) -> int:
        return len(check_class_names(self.source))

    @property
    def validated_on(self) -> str | None:
        """Which images ``val/loss`` and ``val/acc`` are about; None without validation."""
        return self.splits.validated_on

    @property
    def fingerprint(self) -> str:
        """Changes when an image or a label does that ``fit`` uses; after ``setup("fit")``."""
        return self.splits.fingerprint

    @property
    def image_side(self) -> int:
        """Height and width of an image, in pixels; after ``setup("fit")``."""
        return self.splits.training.data.images.shape[1]

    def prepare_data(self) -> None:
        if self.pictures is None:
            self.source.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Read what ``fit``, ``validate``, ``test`` or ``predict`` needs. Without a stage that is
        what ``fit`` needs: the test split is read when it is asked for."""
        stage = TrainerFn(stage or "fit").value
        if self.trainer is not None and self._generators not in self.trainer.callbacks:
            self.trainer.callbacks.insert(0, self._generators)
        if stage == "predict" and self.pictures is not None:
            return
        self.splits.load(stage)
        self._set_up.add(stage)
        if stage == "fit":
            self.splits.check_own()
            self.augmentation.check(self.image_side)

    def teardown(self, stage: str) -> None:
        self.splits.to(torch.device("cpu"))  # as Lightning does with the network

    def train_dataloader(self) -> Batches:
        self._make_ready("fit")
        data, indices = self.splits.training
        order = partial(_shuffled, indices, self.seed)
        draws = partial(self.augmentation.draws, side=self.image_side, seed=self.seed)
        return Batches(self, data, order, draws if self.augmentation else None, self._epochs)

    def val_dataloader(self) -> Any:
        self._make_ready("validate", "fit", "predict")
        if self.val_size is None and _is_fitting(self.trainer):
            return []  # Lightning then validates nothing
        return self._in_order(*self.splits.validation)

    def test_dataloader(self) -> Batches:
        self._make_ready("test")
        return self._in_order(*self.splits.test)

    def predict_dataloader(self) -> Any:
        if self.pictures is None:
            return self.val_dataloader()
        everything = torch.arange(len(self.pictures))
        unlabelled = LabelledImages(self.pictures, torch.full_like(everything, -1))
        return self._in_order(unlabelled, everything)

    def _in_order(self, images: LabelledImages, indices: Tensor) -> Batches:
        return Batches(self, images, partial(_same, indices))

    def _make_ready(self, *stages: str) -> None:
        """See that one of these stages is set up, and the images are where they are to be used."""
        if self._set_up.isdisjoint(stages):
            self.prepare_data()
            self.setup(stages[0])
        trainer = at_work(self.trainer)
        if trainer is not None and trainer.strategy.root_device.type == "cuda":
            # a GPU keeps the splits in its own memory: an epoch copies its order there, no images
            _move_if_they_fit(self.splits, trainer.strategy.root_device)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.trainer is not None:
            self._generators.before_batch(self.trainer)
        return batch

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if are_pixels(batch):
            batch = Prepared(*self.prepare_batch(*batch[:3]), batch[3:])
        if not isinstance(batch, Prepared):
            return batch  # of a loader that somebody has put into the place of one of ours
        if self.trainer is None:
            return batch[:2]
        # "16-true" and its like; Lightning converts before this
        images = self.trainer.precision_plugin.convert_input(batch.images)
        return as_taken(self.trainer.lightning_module, images, batch.labels, batch.of)

    def prepare_batch(
        self, images: Tensor, labels: Tensor, draws: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What a network is given of a batch, on the batch's own device.

        Args:
            images: uint8 N×H×W×3.
            labels: int64 N.
            draws: int32 N×5 or N×8, what is to happen to training images.

        Returns:
            images, float32 N×3×H×W, and labels.
        """
        if draws is None:
            return self.normalise(images), labels
        moved = self.augmentation.move(images, draws)
        ready = self.normalise(self.augmentation.recolour(moved, draws))
        return self.augmentation.blank(ready, draws), labels


def _check_numbers(**numbers: int) -> None:
    for name, value in numbers.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"data.{name} {value!r} must be a whole number")
    if numbers["batch_size"] < 1:
        raise ValueError(f"data.batch_size {numbers['batch_size']} must be at least 1")


def _is_fitting(trainer: Trainer | None) -> bool:
    return trainer is not None and trainer.state.fn == TrainerFn.FITTING


def _move_if_they_fit(splits: Splits, device: torch.device) -> None:
    """To the GPU's memory, of which half of what is free is left to training."""
    if (size := splits.bytes_outside(device)) == 0:
        return
    fits = size <= torch.cuda.mem_get_info(device)[0] // 2
    log.info("Images: %s, %.0f MB", "in the GPU's memory" if fits else "on the host", size / 1e6)
    if fits:
        splits.to(device)


def _shuffled(indices: Tensor, seed: int, epoch: int) -> Tensor:
    return indices[epoch_order(len(indices), seed, epoch)]


def _same(indices: Tensor, epoch: int) -> Tensor:
    return indices
