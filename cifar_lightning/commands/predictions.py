"""What ``predict`` reads and leaves behind."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from cifar_lightning.data import is_no_image, read_image
from cifar_lightning.errors import UserError

_SHOWN = 96  # pixels a side on the contact sheet
_ON_THE_SHEET = 64


def write_predictions(
    path: Path, names: Sequence[str], truth: Tensor, probabilities: Tensor
) -> None:
    """Write a row for each image, in the order of the prediction loader.

    Args:
        path: the CSV file: image (its index in the pass), truth, prediction, and a column with the
            probability of each class.
        names: of the K classes.
        truth: int64, N.
        probabilities: float, N×K.
    """
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "truth", "prediction", *names])
        rows = zip(
            truth.tolist(), probabilities.argmax(1).tolist(), probabilities.tolist(), strict=True
        )
        for image, (true, predicted, row) in enumerate(rows):
            writer.writerow([image, names[true], names[predicted], *_digits(row)])


def find_pictures(paths: Sequence[str]) -> list[Path]:
    """The files that are named, and those in the folders that are named and below them.

    Raises:
        UserError: a path is not there, or a folder holds no file.
    """
    found: list[Path] = []
    for name in paths:
        path = Path(name).expanduser()
        if path.is_dir():
            within = [f for f in path.rglob("*") if f.is_file() and not is_no_image(f.name)]
            if not within:
                raise UserError(f"--data.images {path}: the folder holds no pictures.")
            found += sorted(within)
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"--data.images {path}: there is no such file or folder.")
    return found


def load_pictures(files: Sequence[Path], side: int) -> tuple[Tensor, list[np.ndarray]]:
    """Pictures of any size and mode, cut to the square in their middle and scaled.

    Returns:
        uint8 N×side×side×3 for the network, and as many uint8 96×96×3 as the contact sheet takes.

    Raises:
        UserError: a file cannot be read as an image.
    """
    images = torch.empty(len(files), side, side, 3, dtype=torch.uint8)
    shown = []
    for i, file in enumerate(files):
        picture = read_image(str(file))
        images[i] = torch.from_numpy(_square(picture, side))
        if i < _ON_THE_SHEET:
            shown.append(_square(picture, _SHOWN))
    return images, shown


def write_answers(
    folder: Path,
    files: Sequence[Path],
    shown: Sequence[np.ndarray],
    probabilities: Tensor,
    class_names: Sequence[str],
) -> list[str]:
    """Write ``predictions.csv`` (image, prediction, a column with the probability of each class)
    and ``predictions.png``, the first 64 pictures with their first answers.

    Args:
        folder: where to.
        files: the N pictures.
        shown: the first of them, uint8 96×96×3.
        probabilities: float, N×K.
        class_names: K names.

    Returns:
        a line for each picture: its first three classes with their probabilities.
    """
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "prediction", *class_names])
        rows = zip(files, probabilities.argmax(1).tolist(), probabilities.tolist(), strict=True)
        for picture, predicted, row in rows:
            writer.writerow([picture, class_names[predicted], *_digits(row)])
    top = probabilities.topk(min(3, len(class_names)), dim=1)
    answers = [
        [(class_names[c], p) for c, p in zip(of_one, ps, strict=True)]
        for of_one, ps in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]
    from cifar_lightning.figures import captioned, save

    captions = [
        f"{_shortened(picture.name, 16)}\n{answer[0][0]} {answer[0][1]:.0%}"
        for picture, answer in zip(files, answers, strict=False)
    ]
    title = f"{len(shown)} of {len(files)} pictures" if len(files) > len(shown) else ""
    sheet = captioned(np.stack(shown), captions[: len(shown)], title, columns=min(8, len(shown)))
    save(sheet, folder / "predictions.png")
    width = min(40, max(len(str(picture)) for picture in files))
    return [
        f"{_shortened(str(picture), width):{width}}  "
        + "  ".join(f"{name:<12} {p:6.1%}" for name, p in answer)
        for picture, answer in zip(files, answers, strict=True)
    ]


def picture_side(config: dict[str, Any]) -> int:
    """Height and width in pixels of the images that a run was trained on."""
    return int((config["data"]["source"].get("init_args") or {}).get("resize") or 32)


def _square(picture: Image.Image, side: int) -> np.ndarray:
    return np.array(ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS))


def _digits(row: Sequence[float]) -> list[str]:
    return [f"{p:.6f}" for p in row]


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"…{text[len(text) - width + 1 :]}"
