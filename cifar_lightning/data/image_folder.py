"""Images sorted into folders, one for each class."""

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from cifar_lightning.data.source import LabelledImages, Source, Split
from cifar_lightning.errors import UserError

_SIZE = (32, 32)


class ImageFolder(Source):
    """``root/train/<class>/*`` and ``root/test/<class>/*``: 32×32, in any format Pillow reads.

    The classes are the folders of ``train``, sorted by name. Hidden files are left out.

    Args:
        root: the folder that holds ``train`` and ``test``.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).expanduser()

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        return tuple(folder.name for folder in self._class_folders("train"))

    def load(self, split: Split) -> LabelledImages:
        names = self.class_names
        folders = self._class_folders(split)
        if tuple(folder.name for folder in folders) != names:
            odd = sorted(set(names).symmetric_difference(folder.name for folder in folders))
            raise UserError(
                f"{self.root}: train and test must have the same class folders, but "
                f"{', '.join(odd)} is in one of them only: add or rename the folder."
            )
        files = [_image_files(folder) for folder in folders]
        paths = [path for of_class in files for path in of_class]
        images = np.empty((len(paths), *_SIZE, 3), dtype=np.uint8)
        for row, path in zip(images, paths, strict=True):
            row[...] = _decode(path)
        labels = np.repeat(np.arange(len(files)), [len(of_class) for of_class in files])
        return LabelledImages(torch.from_numpy(images), torch.from_numpy(labels))

    def _class_folders(self, split: Split) -> list[Path]:
        folder = self.root / split
        wanted = f"{self.root} must hold train/<class>/ and test/<class>/ folders of images"
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: {wanted}; give it as --data.source.root.")
        found = sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
        if not found:
            raise UserError(f"{folder} holds no class folders: {wanted}.")
        return found


def _image_files(folder: Path) -> list[Path]:
    files = sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))
    if not files:
        raise UserError(f"{folder} holds no images: put the images of that class there.")
    return files


def _decode(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            pixels = image.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(
            f"{path} cannot be read as an image ({error}): mend or remove it."
        ) from error
    if pixels.size != _SIZE:
        width, height = pixels.size
        raise UserError(f"{path} is {width}×{height} pixels and must be 32×32: resize it.")
    return np.asarray(pixels)
