"""Prediction from Python: pictures in, names and probabilities out."""

from collections.abc import Iterable
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from cifar_lightning.commands.trained import load_trained
from cifar_lightning.data import as_rgb, read_image, square
from cifar_lightning.data.normalisation import Normalisation
from cifar_lightning.errors import local_path
from cifar_lightning.runs.folders import find_checkpoint

Picture = str | PathLike[str] | Image.Image | np.ndarray
"""A file's path, a picture of Pillow's, or an array: uint8 H×W, H×W×3 (RGB) or H×W×4 (RGBA)."""
_AT_ONCE = 256


class Prediction(NamedTuple):
    """What the network says of a picture."""

    label: str
    """The most probable class."""
    probability: float
    """Of that class, from 0 to 1."""
    probabilities: dict[str, float]
    """Of every class, by its name."""


class Predictor:
    """Classifies pictures of any size by a checkpoint, as ``predict --data.images`` does: each is
    cut to the square in its middle and scaled, and normalised as the run's images were.

    Args:
        ckpt_path: best (of the newest run), last, or the path of a checkpoint.
        logs: the folder of the runs, for best and last.
        device: where the network is, such as "cuda".

    Raises:
        UserError: there is no such checkpoint, or the code of its network is not found.
    """

    def __init__(
        self,
        ckpt_path: str | PathLike[str] = "best",
        logs: str | PathLike[str] = "lightning_logs",
        device: str | torch.device = "cpu",
    ) -> None:
        found = find_checkpoint(str(ckpt_path), Path(logs))
        self._classifier, config, self.class_names = load_trained(found)
        self._classifier.to(device)
        self._normalise = Normalisation(config.mean, config.std)
        self._side = found.image_side
        self.ckpt_path = found.path

    def __call__(self, pictures: Iterable[Picture]) -> list[Prediction]:
        """Classify some pictures, in their order.

        Raises:
            UserError: a file is not there, or no picture.
            TypeError: something else is given than pictures.
        """
        if isinstance(pictures, str | PathLike | Image.Image):
            raise TypeError("one picture is given: give a list, as in predictor([picture])")
        predictions, rest = [], iter(pictures)
        while some := [self._pixels(picture) for picture in islice(rest, _AT_ONCE)]:
            for of in self._probabilities(some):
                label = max(of, key=of.__getitem__)
                predictions.append(Prediction(label, of[label], of))
        return predictions

    def _pixels(self, picture: Picture) -> np.ndarray:
        """uint8 side×side×3."""
        if isinstance(picture, str | PathLike):
            return square(read_image(str(local_path(picture))), self._side)
        if isinstance(picture, np.ndarray):
            is_one = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] in (3, 4))
            if picture.dtype != np.uint8 or not is_one:
                raise TypeError(
                    f"an array of {picture.dtype}, {picture.shape}, is no picture: it must be "
                    "uint8, 0 to 255, and H×W, H×W×3 or H×W×4"
                )
            picture = Image.fromarray(picture)
        if not isinstance(picture, Image.Image):
            raise TypeError(f"{type(picture).__name__}: give paths, pictures of Pillow's or arrays")
        return square(as_rgb(picture, "the picture"), self._side)

    @torch.inference_mode()
    def _probabilities(self, pixels: list[np.ndarray]) -> list[dict[str, float]]:
        images = torch.from_numpy(np.stack(pixels)).to(self._classifier.device)
        rows = self._classifier(self._normalise(images)).float().softmax(dim=1).tolist()
        return [dict(zip(self.class_names, row, strict=True)) for row in rows]
