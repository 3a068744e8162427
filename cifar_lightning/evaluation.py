"""What a pass over a split showed: figures that people quote, from probabilities and labels."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

_BINS = 15  # of the calibration error, as in Guo et al., https://arxiv.org/abs/1706.04599


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
