"""Reading pictures for ``predict``, and writing what it predicts."""

import csv
import io
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cifar_lightning.commands.columns import padded, widest
from cifar_lightning.data import is_no_image, read_image, square
from cifar_lightning.errors import UserError
from cifar_lightning.runs.files import write_bytes, write_text
from cifar_lightning.runs.folders import LoadedCheckpoint

log = logging.getLogger(__name__)

_SHOWN = 96  # pixels a side on the contact sheet
_ON_THE_SHEET = 64


def write_predictions(
    path: Path | None,
    names: Sequence[str],
    truth: Tensor | None,
    probabilities: Tensor,
    images: Sequence[object] | None = None,
) -> None:
    """Write a CSV file with a row for each image: image, truth (if known), prediction, and a column
    with the probability of each class.

    Args:
        path: the file; printed if None.
        names: of the K classes.
        truth: int64 N.
        probabilities: float N×K.
        images: N names of the images; their numbers in the pass if None.

    Raises:
        UserError: the disk refuses.
    """
    columns: dict[str, Sequence[object]] = {"image": images or range(len(probabilities))}
    if truth is not None:
        columns["truth"] = [names[label] for label in truth.tolist()]
    columns["prediction"] = [names[label] for label in probabilities.argmax(1).tolist()]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*columns, *names])
    for *known, row in zip(*columns.values(), probabilities.tolist(), strict=True):
        writer.writerow([*known, *(f"{p:.6f}" for p in row)])
    if path is None:
        print(text.getvalue(), end="")
    else:
        write_text(path, text.getvalue())


def report_predictions(
    found: LoadedCheckpoint,
    folder: Path | None,
    names: Sequence[str],
    truth: Tensor,
    probabilities: Tensor,
) -> None:
    """Write ``predictions.csv`` of the held-out images.

    Args:
        found: the checkpoint that predicted.
        folder: where to; printed if None.
        names: of the K classes.
        truth: int64 N.
        probabilities: float N×K.

    Raises:
        UserError: the disk refuses.
    """
    path = folder and folder / "predictions.csv"
    write_predictions(path, names, truth, probabilities)
    if path is not None:
        log.info("Predictions of %s for the validation images: %s", found.path, path)


class Pictures:
    """Pictures of a user's own, for a checkpoint to classify.

    Args:
        paths: files, and folders of files.
        found: the checkpoint.

    Raises:
        UserError: the checkpoint does not hold the names of its classes.
    """

    def __init__(self, paths: Sequence[str], found: LoadedCheckpoint) -> None:
        self._paths = paths
        self._found = found
        if found.ours.get("class_names") is None:
            raise UserError(
                f"{found.path} does not hold the names of its classes: predict with a checkpoint "
                "that `fit` of this version has written."
            )
        self.class_names: list[str] = list(found.ours["class_names"])

    def load(self) -> Tensor:
        """Read them all, uint8 N×side×side×3.

        Raises:
            UserError: a path is not there or cannot be read as an image.
        """
        self._files = find_pictures(self._paths)
        images, self._shown = load_pictures(self._files, self._found.image_side)
        return images

    def report(self, folder: Path | None, probabilities: Tensor) -> None:
        """Print a line for each, and write ``predictions.csv``, and ``predictions.png`` with the
        first 64 pictures and their predictions.

        Args:
            folder: where to; nothing is written if None.
            probabilities: float N×K.

        Raises:
            UserError: the disk refuses.
        """
        answers = _answers(probabilities, self.class_names)
        print(*_lines(self._files, answers), sep="\n", flush=True)  # whatever the disk says
        if folder is None:
            return
        path = folder / "predictions.csv"
        write_predictions(path, self.class_names, None, probabilities, self._files)
        sheet = _sheet(self._files, self._shown, probabilities, self.class_names)
        write_bytes(folder / "predictions.png", sheet)
        what, where = f"{len(self._files)} pictures", folder / "predictions.*"
        log.info("Predictions of %s for %s: %s", self._found.path, what, where)


def find_pictures(paths: Sequence[str]) -> list[Path]:
    """List the files among ``paths``, and all files in and below the folders among them.

    Raises:
        UserError: a path does not exist, or a folder holds no pictures.
    """
    found: list[Path] = []
    for name in paths:
        path = Path(name).expanduser()
        if path.is_dir():
            within = [f for f in path.rglob("*") if f.is_file() and not is_no_image(f.name)]
            if not within:
                raise UserError(f"--data.images {path}: the folder holds no pictures.")
            found += sorted(within, key=lambda file: file.parts)  # whatever the platform's order
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"--data.images {path}: there is no such file or folder.")
    return found


def load_pictures(files: Sequence[Path], side: int) -> tuple[Tensor, list[np.ndarray]]:
    """Read pictures of any size and mode, crop them to their central square and scale them.

    Returns:
        uint8 N×side×side×3 for the network, and as many uint8 96×96×3 as the contact sheet takes.

    Raises:
        UserError: a file cannot be read as an image.
    """
    images = torch.empty(len(files), side, side, 3, dtype=torch.uint8)
    shown = []
    for i, file in enumerate(files):
        picture = read_image(str(file))
        images[i] = torch.from_numpy(square(picture, side))
        if i < _ON_THE_SHEET:
            shown.append(square(picture, _SHOWN))
    return images, shown


def _answers(probabilities: Tensor, class_names: Sequence[str]) -> list[list[tuple[str, float]]]:
    """Of each image the first three classes with their probabilities."""
    top = probabilities.topk(min(3, len(class_names)), dim=1)
    return [
        [(class_names[c], p) for c, p in zip(of_one, ps, strict=True)]
        for of_one, ps in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]


def _lines(files: Sequence[Path], answers: list[list[tuple[str, float]]]) -> list[str]:
    from cifar_lightning.figures import shortened

    width = min(40, widest([str(picture) for picture in files]))
    return [
        f"{padded(shortened(str(picture), width), width)}  "
        + "  ".join(f"{padded(name, 12)} {p:6.1%}" for name, p in answer)
        for picture, answer in zip(files, answers, strict=True)
    ]


def _sheet(
    files: Sequence[Path],
    shown: Sequence[np.ndarray],
    probabilities: Tensor,
    class_names: Sequence[str],
) -> bytes:
    """A PNG of the first pictures, uint8 96×96×3, with their predictions."""
    from cifar_lightning.figures import captioned, legible, png, shortened

    files_shown, names = legible([f.name for f in files[: len(shown)]]), legible(class_names)
    first = probabilities[: len(shown)].max(dim=1)
    captions = [
        f"{shortened(file, 16)}\n{shortened(names[label], 12)} {p:.0%}"
        for file, label, p in zip(
            files_shown, first.indices.tolist(), first.values.tolist(), strict=True
        )
    ]
    title = f"{len(shown)} of {len(files)} pictures" if len(files) > len(shown) else ""
    return png(captioned(np.stack(shown), captions, title, columns=min(8, len(shown))))
