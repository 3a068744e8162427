"""What ``predict`` leaves behind."""

import csv
from pathlib import Path

from torch import Tensor

from cifar_lightning.data import CIFAR10DataModule


def write_predictions(path: Path, data: CIFAR10DataModule, probabilities: Tensor) -> None:
    """Write a row for each image, in the order of the prediction loader.

    Args:
        path: the CSV file: image (its index in the pass), truth, prediction, and a column with the
            probability of each class.
        data: gives the truth and the names of the classes.
        probabilities: float, N×K.
    """
    names = data.source.class_names
    truth = [label for _, labels in data.predict_dataloader() for label in labels.tolist()]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "truth", "prediction", *names])
        rows = zip(truth, probabilities.argmax(1).tolist(), probabilities.tolist(), strict=True)
        for image, (true, predicted, row) in enumerate(rows):
            shares = [f"{p:.6f}" for p in row]
            writer.writerow([image, names[true], names[predicted], *shares])
