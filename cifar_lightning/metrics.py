"""What is measured of a pass over images, and the light sums of training."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_calibration_error

from cifar_lightning.processes.collectives import all_reduce_sum, world_size

_TOGETHER = 64  # batches
_BINS = 15  # of the calibration error, as in Guo et al., https://arxiv.org/abs/1706.04599


class LossAccuracyMeter(nn.Module):
    """Loss and right answers, summed up over all images seen since the last reset.

    torchmetrics takes 130 µs a step for the same, and its MeanMetric(nan_strategy="disable")
    loses the weights, so that a short last batch counts as much as a full one (1.9.0).
    """

    loss: Tensor
    right: Tensor
    images: Tensor

    def __init__(self, persistent: bool = False) -> None:
        super().__init__()
        self.register_buffer("loss", torch.zeros(()), persistent)
        self.register_buffer("right", torch.zeros((), dtype=torch.int64), persistent)
        self.register_buffer("images", torch.zeros((), dtype=torch.int64), persistent)
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self.register_state_dict_pre_hook(lambda sums, *_: sums._count())  # type: ignore[no-untyped-call]

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean loss, float logits N×K and int64 labels N. Nothing is read back
        from the device."""
        if len(labels) == 0:
            return  # the mean loss of no images is not a number
        self.loss.add_(loss, alpha=len(labels))
        # counted together, which takes less time than each by itself; whole numbers add up to the
        # same in any order
        self._waiting.append((logits, labels))
        if len(self._waiting) == _TOGETHER:
            self._count()

    def merge(self, other: "LossAccuracyMeter") -> None:
        other._count()
        self.loss.add_(other.loss)
        self.right.add_(other.right)
        self.images.add_(other.images)

    def total(self) -> "LossAccuracyMeter":
        """The sums over all processes; with one process these."""
        if world_size() == 1:
            return self
        total = LossAccuracyMeter().to(self.loss.device)
        total.values = all_reduce_sum(self.values)
        return total

    @property
    def values(self) -> Tensor:
        """Loss, right answers and images as float64, which holds each of them exactly."""
        self._count()
        return torch.stack([value.double() for value in (self.loss, self.right, self.images)])

    @values.setter
    def values(self, values: Tensor) -> None:
        self._waiting.clear()
        for own, value in zip((self.loss, self.right, self.images), values, strict=True):
            own.copy_(value)

    def means(self, name: str) -> dict[str, Tensor]:
        """Mean loss and top-1 accuracy; the braces in ``name`` become ``loss`` and ``acc``."""
        self._count()
        return {
            name.format("loss"): self.loss / self.images,
            name.format("acc"): self.right / self.images,
        }

    def reset(self) -> None:
        self._waiting.clear()
        self.loss.zero_()
        self.right.zero_()
        self.images.zero_()

    def _count(self) -> None:
        if self._waiting:
            logits, labels = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
            self._waiting.clear()
            self.right.add_((logits.argmax(dim=1) == labels).sum())
            self.images.add_(len(labels))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "LossAccuracyMeter":
        # moves along with the weights, but is none of them: "16-true" must not round it
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = buffer.to(fn(buffer).device)
        return self


@dataclass(frozen=True)
class Evaluation:
    """Probabilities, float N×K, and true classes, int64 N, both on the CPU; N is at least 1."""

    probabilities: Tensor
    labels: Tensor

    @property
    def predictions(self) -> Tensor:
        """The most probable class of each image, int64 N."""
        return self.probabilities.argmax(dim=1)

    @property
    def confusion_matrix(self) -> Tensor:
        """How many images of each true class (row) were taken for each class, int64 K×K."""
        classes = self.probabilities.shape[1]
        pairs = self.labels * classes + self.predictions
        return torch.bincount(pairs, minlength=classes * classes).view(classes, classes)

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy."""
        return float((self.predictions == self.labels).double().mean())

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """95 % confidence interval of the accuracy: Wilson's score interval (1927)."""
        n, p, z = len(self.labels), self.accuracy, 1.959964
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return centre - half, centre + half

    @property
    def precision(self) -> Tensor:
        """Of the images taken for a class, the share that are of it; float64 K, NaN for none."""
        matrix = self.confusion_matrix.double()
        return matrix.diag() / matrix.sum(dim=0)

    @property
    def recall(self) -> Tensor:
        """Of the images of a class, the share recognised: its accuracy; float64 K, NaN for none."""
        matrix = self.confusion_matrix.double()
        return matrix.diag() / matrix.sum(dim=1)

    @property
    def f1(self) -> Tensor:
        """The harmonic mean of precision and recall; float64 K, NaN for a class that is nowhere."""
        matrix = self.confusion_matrix.double()
        return 2 * matrix.diag() / (matrix.sum(dim=0) + matrix.sum(dim=1))

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: the mean distance between confidence and accuracy, 15 bins
        of equal width."""
        classes = self.probabilities.shape[1]
        probabilities = self.probabilities.float()
        return float(
            multiclass_calibration_error(probabilities, self.labels, classes, n_bins=_BINS)
        )

    def reliability(self) -> tuple[Tensor, Tensor, Tensor]:
        """What a calibration plot shows, for each bin of confidence that holds images.

        Returns:
            mean confidence, accuracy (both float64) and number of images (int64), each of the
            length of the bins that are not empty.
        """
        confidence = self.probabilities.max(dim=1).values.double()
        right = (self.predictions == self.labels).double()
        bins = (confidence * _BINS).ceil().long().clamp(1, _BINS) - 1
        count = torch.bincount(bins, minlength=_BINS)
        held = count > 0
        mean_confidence = torch.bincount(bins, confidence, _BINS)[held] / count[held]
        accuracy = torch.bincount(bins, right, _BINS)[held] / count[held]
        return mean_confidence, accuracy, count[held]

    def mistakes(self, count: int) -> Tensor:
        """The images that were most confidently mistaken: at most ``count`` indices, int64."""
        wrong = torch.nonzero(self.predictions != self.labels).flatten()
        confidence = self.probabilities.max(dim=1).values[wrong]
        # stable: of equals the first one, so that a resumed run shows the same
        return wrong[confidence.argsort(descending=True, stable=True)[:count]]
