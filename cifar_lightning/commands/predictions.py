"""Reading pictures for ``predict``, and writing what it predicts."""

import csv
import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cifar_lightning.commands.columns import padded, widest
from cifar_lightning.data import is_no_image, read_image, square
from cifar_lightning.errors import UserError, counted, local_path
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
    """Write a row for each image: image, truth (if known), prediction, and the probability of each
    class. In CSV that is a column a class; in JSON an object an image, with ``probabilities``.

    Args:
        path: the file, which ends in .csv or .json; printed as CSV if None.
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
    rows = zip(*columns.values(), probabilities.tolist(), strict=True)
    if path is not None and path.suffix == ".json":
        known = [
            {
                **dict(zip(columns, map(_plain, facts), strict=True)),
                "probabilities": {name: round(p, 6) for name, p in zip(names, row, strict=True)},
            }
            for *facts, row in rows
        ]
        write_text(path, json.dumps(known, indent=2, ensure_ascii=False) + "\n")
        return
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*columns, *names])
    for *facts, row in rows:
        writer.writerow([*facts, *(f"{p:.6f}" for p in row)])
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
    to: Path | None = None,
) -> None:
    """Write the predictions for the held-out images.

    Args:
        found: the checkpoint that predicted.
        folder: where to; printed if None.
        names: of the K classes.
        truth: int64 N.
        probabilities: float N×K.
        to: the file; ``predictions.csv`` in the folder if None.

    Raises:
        UserError: the disk refuses.
    """
    path = to or (folder and folder / "predictions.csv")
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
        self._files = find_pictures(self._paths, "--data.images")
        images, self._shown = load_pictures(self._files, self._found.image_side)
        return images

    def report(self, folder: Path | None, probabilities: Tensor, to: Path | None = None) -> None:
        """Print a line for each, and write what is predicted.

        Args:
            folder: where to; nothing is written if None.
            probabilities: float N×K.
            to: the file; ``predictions.csv`` in the folder, and beside it ``predictions.png`` with
                the first 64 pictures, if None.

        Raises:
            UserError: the disk refuses.
        """
        answers = _answers(probabilities, self.class_names)
        print(*_lines(self._files, answers), sep="\n", flush=True)  # whatever the disk says
        path = to or (folder and folder / "predictions.csv")
        if path is None:
            return
        write_predictions(path, self.class_names, None, probabilities, self._files)
        if to is None:
            sheet = _sheet(self._files, self._shown, probabilities, self.class_names)
            write_bytes(path.with_suffix(".png"), sheet)
        what, where = counted(len(self._files), "picture"), to or path.with_suffix(".*")
        log.info("Predictions of %s for %s: %s", self._found.path, what, where)


def find_pictures(paths: Sequence[str], option: str) -> list[Path]:
    """List the files among ``paths``, and all files in and below the folders among them.

    Args:
        paths: as they were typed.
        option: after which they were typed.

    Raises:
        UserError: a path does not exist, or a folder holds no pictures.
    """
    found: list[Path] = []
    for name in paths:
        path = local_path(name, option)
        if path.is_dir():
            within = [f for f in path.rglob("*") if f.is_file() and not is_no_image(f.name)]
            if not within:
                raise UserError(f"{option} {name}: the folder holds no pictures.")
            found += sorted(within, key=lambda file: file.parts)  # whatever the platform's order
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"{option} {name}: there is no such file or folder.")
    once = {file.absolute(): file for file in found}
    if (again := len(found) - len(once)) > 0:
        log.info("%s: pictures that are named again count once (%d).", option, again)
    return list(once.values())


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


def _plain(fact: object) -> object:
    return str(fact) if isinstance(fact, Path) else fact
