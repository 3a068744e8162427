"""Images sorted into folders, one for each class."""

import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EACCES
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pooch
import torch
from filelock import FileLock

from cifar_lightning.data.pictures import is_no_image, read_all, read_image
from cifar_lightning.data.source import LabelledImages, Source, Split
from cifar_lightning.errors import UserError, local_path

log = logging.getLogger(__name__)

_DECODING = 2  # counts up when the same file gives other pixels than before
_EFFECTIVE = os.access in os.supports_effective_ids
_LARGE = 100e6  # bytes that are not written to disk without a word


class ImageFolder(Source):
    """``root/train/<class>/*`` and ``root/test/<class>/*``, in any format Pillow reads; images to
    validate on in ``root/val/<class>/*``, if that is there.

    The classes are the folders of ``train``, sorted by name. Greyscale, palette, CMYK and
    transparent images become RGB, and are turned as their EXIF says. Hidden files are left out.
    What was decoded is kept in the user's cache folder, until a file changes.

    Args:
        root: the folder that holds ``train`` and ``test``.
        resize: cut each image to the square in its middle, and scale it to so many pixels a side;
            without it all must be square and have the same size.

    Raises:
        ValueError: ``resize`` is not positive.
    """

    def __init__(self, root: Path, resize: int | None = None) -> None:
        if resize is not None and resize < 1:
            raise ValueError(f"data.source.resize {resize} must be at least 1")
        self.root = local_path(root, "--data.source.root")
        self.resize = resize
        if os.path.lexists(self.root / "val"):
            self.splits = ("train", "val", "test")
        self._is_prepared = False

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        return tuple(folder.name for folder in self._class_folders("train"))

    def prepare(self) -> None:
        """See that the folders of all splits fit together, before a run that needs one of them
        begins; no image is read.

        Raises:
            UserError: they do not, or a file in them cannot be read.
        """
        if self._is_prepared:
            return
        for split in self.splits:
            if split != "test" or os.path.lexists(self.root / split):
                self._files(split)
            else:
                log.info("%s has no folder test: `test` will have no images.", self.root)
        self._is_prepared = True

    def load(self, split: Split) -> LabelledImages:
        files = self._files(split)
        labels = np.repeat(np.arange(len(files)), [len(of_class) for of_class in files])
        flat = [file for of_class in files for file in of_class]
        cache = self._cache(split, flat)
        images = _read(cache, len(flat))
        if images is None:
            with _one_at_a_time(cache.parent):  # of several processes one decodes
                images = _read(cache, len(flat))
                if images is None:
                    decoded = self._decoded([file.path for file in flat])
                    _write(cache, decoded)
                    images = _read(cache, len(flat))
                    images = decoded if images is None else images
        return LabelledImages(torch.from_numpy(images), torch.from_numpy(labels))

    def _decoded(self, paths: list[str]) -> np.ndarray:
        threads = os.cpu_count() or 1
        return read_all(paths, lambda number: read_image(paths[number]), self.resize, threads)

    def _files(self, split: Split) -> "list[list[_File]]":
        """The files of a split, class by class. Raises UserError."""
        names, folders = self.class_names, self._class_folders(split)
        found = [folder.name for folder in folders]
        if tuple(found) != names:
            odd = sorted(set(names).symmetric_difference(found))
            raise UserError(
                f"{self.root}: train and {split} must have the same class folders, but "
                f"{_some(odd)} {'is' if len(odd) == 1 else 'are'} in one of them only: add or "
                "rename the folder."
            )
        return [_files(folder) for folder in folders]

    def _class_folders(self, split: Split) -> list[Path]:
        folder = self.root / split
        wanted = f"{self.root} must hold train/<class>/ and test/<class>/ folders of images"
        if not os.path.isdir(folder):  # noqa: PTH112 (Path.is_dir raises where one may not look)
            raise UserError(f"{folder} is not a folder: {wanted}; give it as --data.source.root.")
        with _said(folder):
            entries = [f for f in folder.iterdir() if not f.name.startswith(".")]
            entries.sort(key=lambda f: f.name)  # capitals first, as Windows' paths do not
            # stat: a link to nothing may have been a class
            found = [f for f in entries if stat.S_ISDIR(f.stat().st_mode)]
        if not found:
            raise UserError(f"{folder} holds no class folders: {wanted}.")
        return found

    def _cache(self, split: Split, files: list["_File"]) -> Path:
        """Where the decoded images of exactly these files are, or shall be."""
        where = hashlib.sha256(f"{self.root.absolute()} {split}".encode()).hexdigest()[:12]
        what = hashlib.sha256(repr((_DECODING, self.resize, files)).encode()).hexdigest()[:24]
        return Path(pooch.os_cache("cifar_lightning")) / f"{where}-{what}.npy"


class _File(NamedTuple):
    path: str
    size: int
    modified: int
    """Nanoseconds since the epoch."""


def _files(folder: Path) -> list[_File]:
    found = []
    with _said(folder), os.scandir(folder) as entries:
        for entry in entries:
            if is_no_image(entry.name):
                continue
            status = entry.stat()
            if entry.is_dir():
                raise UserError(
                    f"{entry.path} is a folder within a class: put its images directly into "
                    f"{folder}."
                )
            if not stat.S_ISREG(status.st_mode):  # a pipe would be waited on for ever
                raise UserError(f"{entry.path} is no regular file: remove it.")
            if not os.access(entry.path, os.R_OK, effective_ids=_EFFECTIVE):
                raise PermissionError(EACCES, os.strerror(EACCES), entry.path)
            found.append(_File(entry.path, status.st_size, status.st_mtime_ns))
    if not found:
        raise UserError(f"{folder} holds no images: put the images of that class there.")
    return sorted(found)


@contextmanager
def _said(folder: Path) -> Iterator[None]:
    """What cannot be looked at in a folder, in a sentence."""
    try:
        yield
    except OSError as error:
        path = error.filename or folder
        to_nothing = isinstance(error, FileNotFoundError) and os.path.islink(path)  # noqa: PTH114
        reason = "it is a link to nothing" if to_nothing else error.strerror
        raise UserError(f"{path} cannot be read ({reason}): mend or remove it.") from error


def _some(names: list[str]) -> str:
    """Names in a sentence, of many the first."""
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _read(cache: Path, count: int) -> np.ndarray | None:
    try:
        # mapped: processes share the pages of the file; none writes into them
        images: np.ndarray = np.load(cache, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = images.ndim == 4 and len(images) == count and images.dtype == np.uint8
    return images if whole else None


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
    if images.nbytes >= _LARGE:
        size = f"{images.nbytes / 1e6:,.0f} MB"
        log.info("Keeping %s of decoded images, for the next start: %s", size, cache)
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
