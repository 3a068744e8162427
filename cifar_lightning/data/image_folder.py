"""Images sorted into folders, one for each class."""

import hashlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pooch
import torch
from filelock import FileLock
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin

from cifar_lightning.data.source import LabelledImages, Source, Split
from cifar_lightning.errors import UserError

log = logging.getLogger(__name__)

_SIDE = 32
_DECODING = 2  # counts up when the same file gives other pixels than before
# formats whose 16-bit numbers go from black, 0, to white; in astronomy's they go anywhere
_SIXTEEN_BITS = {"ICNS", "ICO", "IM", "JPEG2000", "PNG", "TIFF"}
_NOT_IMAGES = {"thumbs.db", "desktop.ini"}  # what file managers leave behind


class ImageFolder(Source):
    """``root/train/<class>/*`` and ``root/test/<class>/*``, in any format Pillow reads.

    The classes are the folders of ``train``, sorted by name. Greyscale, palette, CMYK and
    transparent images become RGB, and are turned as their EXIF says. Hidden files are left out.
    What was decoded is kept in the user's cache folder, until a file changes.

    Args:
        root: the folder that holds ``train`` and ``test``.
        resize: scale square images to so many pixels a side; without it all must be 32×32.

    Raises:
        ValueError: ``resize`` is not positive.
    """

    def __init__(self, root: Path, resize: int | None = None) -> None:
        if resize is not None and resize < 1:
            raise ValueError(f"data.source.resize {resize} must be at least 1")
        self.root = Path(root).expanduser()
        self._side = resize or _SIDE
        self.resize = resize

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
        files = [_files(folder) for folder in folders]
        labels = np.repeat(np.arange(len(files)), [len(of_class) for of_class in files])
        flat = [file for of_class in files for file in of_class]
        cache = self._cache(split, flat)
        shape = (len(flat), self._side, self._side, 3)
        images = _read(cache, shape)
        if images is None:
            with _one_at_a_time(cache.parent):  # of several processes one decodes
                images = _read(cache, shape)
                if images is None:
                    decoded = np.empty(shape, dtype=np.uint8)
                    for row, file in zip(decoded, flat, strict=True):
                        row[...] = self._decode(file.path)
                    _write(cache, decoded)
                    images = _read(cache, shape)
                    images = decoded if images is None else images
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

    def _decode(self, path: str) -> np.ndarray:
        image = read_image(path)
        width, height = image.size
        if (width, height) == (self._side, self._side):
            return np.asarray(image)
        if self.resize is None:
            raise UserError(
                f"{path} is {width}×{height} pixels and must be {_SIDE}×{_SIDE}: scale it, or "
                f"have square images scaled with --data.source.resize {_SIDE}."
            )
        if width != height:
            raise UserError(f"{path} is {width}×{height} pixels, not square: crop it.")
        return np.asarray(image.resize((self._side, self._side), Image.Resampling.LANCZOS))

    def _cache(self, split: Split, files: list["_File"]) -> Path:
        """Where the decoded images of exactly these files are, or shall be."""
        where = hashlib.sha256(f"{self.root.absolute()} {split}".encode()).hexdigest()[:12]
        what = hashlib.sha256(repr((_DECODING, self.resize, files)).encode()).hexdigest()[:24]
        return Path(pooch.os_cache("cifar_lightning")) / f"{where}-{what}.npy"


def read_image(path: str) -> Image.Image:
    """Read a picture in any format of Pillow, in RGB, turned as its EXIF says.

    Black stays black and white stays white, whatever the number of bits. Transparent pixels keep
    the colour that the file gives them; alpha is dropped, as torchvision's ``ImageFolder`` does.

    Raises:
        UserError: it cannot be read, or its numbers have no white; names it.
    """
    try:
        with Image.open(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a palette with transparency is no reason to worry
            white = _white(path, file) if file.mode.startswith(("I", "F")) else None
            picture = ImageOps.exif_transpose(file)
            if white is not None:
                return _grey(np.asarray(picture), *white).convert("RGB")
            if picture.mode == "La":  # Pillow undoes premultiplication in this one step alone
                picture = picture.convert("LA")
            return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path} cannot be read as an image ({type(error).__name__}): mend or remove it."
        ) from error


def _white(path: str, file: ImageFile.ImageFile) -> tuple[int, bool]:
    """The number that stands for white in a picture of wide numbers, and whether it stands for
    black instead. ``Image.convert`` would make white of everything above 255."""
    sixteen_bits = file.mode.startswith("I;16") and file.format in _SIXTEEN_BITS
    # Pillow brings what a PPM calls white to 65535
    if not sixteen_bits and (file.mode, file.format) != ("I", "PPM"):
        raise UserError(
            f"{path} holds numbers (Pillow's mode {file.mode}) of which none is white: "
            "save it with 8 or 16 bits a channel, as PNG for example."
        )
    if isinstance(file, TiffImagePlugin.TiffImageFile):
        (bits,) = file.tag_v2[TiffImagePlugin.BITSPERSAMPLE]  # 16 or 12
        kind = file.tag_v2[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION]
        return 2**bits - 1, kind == 0  # WhiteIsZero
    return 65535, False


def _grey(values: np.ndarray, white: int, inverted: bool) -> Image.Image:
    """From whole numbers H×W, 0 to ``white``, to 8 bits."""
    scaled = (values.astype(np.int64) * 255 + white // 2) // white
    return Image.fromarray((255 - scaled if inverted else scaled).astype(np.uint8))


def is_no_image(name: str) -> bool:
    """Whether a file of this name is passed over: hidden, or left behind by a file manager."""
    return name.startswith(".") or name.lower() in _NOT_IMAGES


class _File(NamedTuple):
    path: str
    size: int
    modified: int
    """Nanoseconds since the epoch."""


def _files(folder: Path) -> list[_File]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_no_image(entry.name):
                continue
            if entry.is_dir():
                raise UserError(
                    f"{entry.path} is a folder within a class: put its images directly into "
                    f"{folder}."
                )
            status = entry.stat()
            found.append(_File(entry.path, status.st_size, status.st_mtime_ns))
    if not found:
        raise UserError(f"{folder} holds no images: put the images of that class there.")
    return sorted(found)


def _read(cache: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    try:
        # mapped: processes share the pages of the file; none writes into them
        images: np.ndarray = np.load(cache, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / ".lock")
    with suppress(OSError):  # where nothing can be kept, each decodes for itself
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _write(cache: Path, images: np.ndarray) -> None:
    """A cache that cannot be written costs time at the next start, and nothing else."""
    part = cache.with_suffix(f".{os.getpid()}.part")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.save(file, images)
        for outdated in cache.parent.glob(f"{cache.name.split('-')[0]}-*.npy"):
            outdated.unlink(missing_ok=True)
        part.replace(cache)
    except OSError as error:
        log.info("The decoded images are not kept: %s (%s)", cache.parent, error.strerror)
        part.unlink(missing_ok=True)
