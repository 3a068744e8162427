"""What is measured of a pass over a split, on torchmetrics."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
)

from cifar_lightning.errors import UsageError, answered_about
from cifar_lightning.meter import LossAccuracyMeter

MetricCallable = Callable[[int], Metric]
"""Makes a metric from the number of classes: most classes of torchmetrics.classification do."""

_BINS = 15  # of the calibration error, as in Guo et al., https://arxiv.org/abs/1706.04599


class EvaluationMetrics(nn.Module):
    """What validation and test measure: the mean loss, and torchmetrics objects.

    Args:
        num_classes: the number of logits.
        more: makes further metrics of probabilities N×K and labels N, each a single number that is
            logged under the name of its class.
    """

    def __init__(
        self, num_classes: int, more: list[MetricCallable] | MetricCallable | None = None
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.loss = LossAccuracyMeter()
        # unchecked: torchmetrics would read every batch back from the device
        of: dict[str, Any] = {"num_classes": num_classes, "validate_args": False}
        self.accuracy: Metric = MulticlassAccuracy(**of, average="micro")
        self.class_accuracy: Metric = MulticlassAccuracy(**of, average=None)
        self.confusion_matrix: Metric = MulticlassConfusionMatrix(**of)
        self.calibration_error = MulticlassCalibrationError(**of, n_bins=_BINS)
        makers = more if isinstance(more, list) else [more] if more else []
        self.more = MetricCollection({**_by_name(makers, num_classes)}, compute_groups=False)

    def reset(self, device: torch.device) -> None:
        """Begin a pass over batches on a device."""
        self.loss.reset()
        self.loss.to(device)
        for metric in (self.accuracy, self.class_accuracy, self.confusion_matrix):
            metric.reset()
        self.calibration_error.reset()
        self.more.reset()

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean loss, float logits N×K and int64 labels N.

        Raises:
            UsageError: there are not as many logits as classes.
        """
        if logits.shape[1] != self.num_classes:
            raise UsageError(
                f"The network gives {logits.shape[1]} logits, but ImageClassifier was made for "
                f"{self.num_classes} classes: give it num_classes={logits.shape[1]}."
            )
        if len(labels) == 0:
            return  # of a short last batch not every process has images, and metrics need some
        self.loss.update(loss, logits, labels)
        for metric in (self.accuracy, self.class_accuracy, self.confusion_matrix):
            metric.update(logits, labels)
        # given logits, most metrics guess from their range whether they are probabilities
        probabilities = logits.float().softmax(dim=1)
        self.calibration_error.update(probabilities, labels)
        self.more.update(probabilities, labels)

    def compute(self, name: str) -> dict[str, Tensor]:
        """What is logged of the pass, over all processes; the braces in ``name`` become ``loss``,
        ``acc`` and the names of further metrics.

        Raises:
            UsageError: a further metric gives something else than a number, or has a name that is
                taken.
        """
        values = {
            name.format("loss"): self.loss.total().means("{}")["loss"],
            name.format("acc"): self.accuracy.compute(),
        }
        for key, value in self.more.compute().items():
            if name.format(key) in values:
                raise UsageError(f"--model.metrics {key}: that name is taken; call it otherwise.")
            values[name.format(key)] = _number(key, value)
        return values

    def confusion(self) -> Tensor:
        """int64 K×K, see ``Evaluation``; torchmetrics makes a number of a matrix of one class."""
        matrix: Tensor = self.confusion_matrix.compute()
        return matrix.view(self.num_classes, self.num_classes)

    def evaluation(self, probabilities: Tensor, labels: Tensor) -> "Evaluation":
        """The pass with its images, float N×K and int64 N; asked of all processes together."""
        return Evaluation(
            probabilities,
            labels,
            self.confusion().cpu(),
            float(self.calibration_error.compute()),
        )


def _by_name(makers: list[MetricCallable], num_classes: int) -> dict[str, Metric]:
    """Metrics by the names that they are logged under: of their class, and where there are several
    of one, of the arguments by which they differ, too.

    Raises:
        UsageError: two have the same name; or one cannot be made, or is none.
        FailedError: code of the user's own has failed.
    """
    made = [
        (name, metric, getattr(make, "keywords", {}))
        for make in makers
        for name, metric in _made(make, num_classes).items()
    ]
    metrics: dict[str, Metric] = {}
    for kind, metric, given in made:
        alike = [others for other, _, others in made if other == kind]
        apart = [k for k, v in given.items() if any(repr(o.get(k)) != repr(v) for o in alike)]
        words = "_".join([kind, *(f"{key}_{given[key]}" for key in apart)])
        name = re.sub(r"[^\w.-]+", "_", words)  # what TensorBoard takes
        if name in metrics:
            raise UsageError(
                f"--model.metrics {kind} is given twice with the same arguments: leave one of them "
                "out, or give it others, by which they are told apart."
            )
        metrics[name] = metric
    return metrics


def _made(make: MetricCallable, num_classes: int) -> dict[str, Metric]:
    """What a maker makes, by class; from Python that may be several metrics together."""
    of: Any = make
    while isinstance(of, partial):  # of the command line: what makes it is the last argument
        of = of.args[-1] if of.args else of.func
    name = getattr(of, "__name__", "")
    from_number = "must be made from the number of classes, its first argument"
    with answered_about(f"--model.metrics {name} {from_number}, and raises"):
        metric: Any = make(num_classes)
    if isinstance(metric, MetricCollection):
        return dict(metric.items())
    if not isinstance(metric, Metric):
        raise UsageError(
            f"--model.metrics {name} gives a {type(metric).__name__} for the number of classes: "
            "it must give a torchmetrics.Metric."
        )
    return {type(metric).__name__: metric}


def _number(key: str, value: Any) -> Tensor:
    if isinstance(value, int | float):
        return torch.tensor(float(value))
    if not isinstance(value, Tensor) or value.is_complex():
        given = "nothing (None)" if value is None else f"a {type(value).__name__}"
        raise UsageError(f"--model.metrics {key} gives {given}: it must give a number.")
    if value.numel() != 1:
        raise UsageError(
            f"--model.metrics {key} gives more than one number, which cannot be logged as one: "
            "have it average over the classes."
        )
    return value


@dataclass(frozen=True)
class Evaluation:
    """A pass over N images of K classes, for those who look at all of it together; on the CPU."""

    probabilities: Tensor
    """float N×K, in the order of the images."""
    labels: Tensor
    """int64 N."""
    confusion_matrix: Tensor
    """int64 K×K: how many images of each true class (row) were taken for each class."""
    calibration_error: float
    """Expected calibration error: the mean distance between confidence and accuracy, 15 bins of
    equal width."""

    @property
    def predictions(self) -> Tensor:
        """The most probable class of each image, int64 N."""
        return self.probabilities.argmax(dim=1)

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy."""
        return int(self.confusion_matrix.diag().sum()) / len(self.labels)

    @property
    def accuracy_top5(self) -> float | None:
        """Of the images, the share whose class is among the five most probable; None where there
        are no more than five."""
        if self.probabilities.shape[1] <= 5:
            return None
        among = self.probabilities.topk(5, dim=1).indices == self.labels[:, None]
        return int(among.sum()) / len(self.labels)

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

    def reliability(self) -> tuple[Tensor, Tensor, Tensor]:
        """What a calibration plot shows, for each bin of confidence that holds images.

        Returns:
            mean confidence, accuracy (both float64) and number of images (int64), each of the
            length of the bins that are not empty.
        """
        confidence = self.probabilities.max(dim=1).values.double()
        correct = (self.predictions == self.labels).double()
        bins = (confidence * _BINS).ceil().long().clamp(1, _BINS) - 1
        count = torch.bincount(bins, minlength=_BINS)
        held = count > 0
        mean_confidence = torch.bincount(bins, confidence, _BINS)[held] / count[held]
        accuracy = torch.bincount(bins, correct, _BINS)[held] / count[held]
        return mean_confidence, accuracy, count[held]

    def mistakes(self, count: int) -> Tensor:
        """The images that were most confidently mistaken: at most ``count`` indices, int64."""
        wrong = torch.nonzero(self.predictions != self.labels).flatten()
        confidence = self.probabilities.max(dim=1).values[wrong]
        # stable: of equals the first one, so that a resumed run shows the same
        return wrong[confidence.argsort(descending=True, stable=True)[:count]]
