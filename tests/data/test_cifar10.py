"""CIFAR-10 on disk: packed, unpacked, damaged, not to be written, not to be trusted."""

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_cifar10 import (
    IMAGES_PER_FILE,
    delivers,
    environment,
    make_archive,
)
from helpers import CIFAR10_TINY
from program import Command
from torchvision.datasets import CIFAR10 as TorchvisionCIFAR10

from cifar_lightning.data import CIFAR10, cifar10
from cifar_lightning.data.source import Split
from cifar_lightning.errors import UserError

ARCHIVE, BELIEFS = make_archive()
pytestmark = pytest.mark.usefixtures("believe")


def test_reads_what_torchvision_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(ARCHIVE)
    source = CIFAR10(tmp_path)
    source.prepare()
    monkeypatch.setattr(TorchvisionCIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(TorchvisionCIFAR10, "_load_meta", lambda self: None)
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        ours = source.load(split)
        theirs = TorchvisionCIFAR10(str(tmp_path), train=split == "train")
        assert ours.images.dtype == torch.uint8
        assert np.array_equal(ours.images.numpy(), theirs.data)
        assert ours.labels.tolist() == theirs.targets


def test_damaged_file_is_replaced_from_the_archive(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(ARCHIVE)
    CIFAR10(tmp_path).prepare()
    damaged = tmp_path / "cifar-10-batches-py/data_batch_3"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    CIFAR10(tmp_path).prepare()
    assert "data_batch_3" in caplog.text
    assert len(CIFAR10(tmp_path).load("train").labels) == 5 * IMAGES_PER_FILE


@pytest.mark.parametrize("folder", ["none", "damaged"])
def test_damaged_archive_is_fetched_again(
    folder: str, tmp_path: Path, serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(ARCHIVE)
    if folder == "damaged":
        CIFAR10(tmp_path).prepare()
        (tmp_path / "cifar-10-batches-py/test_batch").write_bytes(b"damaged")
    archive.write_bytes(ARCHIVE[:1000])
    url, asked = serve(good=delivers(ARCHIVE))
    CIFAR10(tmp_path, mirrors=[f"{url}/good"]).prepare()
    assert asked == ["/good"]
    assert "cifar-10-python.tar.gz is damaged or incomplete" in caplog.text
    assert archive.read_bytes() == ARCHIVE
    assert len(CIFAR10(tmp_path).load("test").labels) == IMAGES_PER_FILE


def test_folder_alone_and_read_only(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(ARCHIVE)
    CIFAR10(tmp_path).prepare()
    (tmp_path / "cifar-10-python.tar.gz").unlink()
    tmp_path.chmod(0o500)
    try:
        CIFAR10(tmp_path).prepare()
        assert len(CIFAR10(tmp_path).load("test").labels) == IMAGES_PER_FILE
    finally:
        tmp_path.chmod(0o700)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cifar-10-batches-py"]


def test_hashed_once_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(ARCHIVE)
    CIFAR10(tmp_path).prepare()
    CIFAR10(tmp_path).prepare()
    hashed: list[str] = []
    holds = cifar10._holds

    def watched(path: Path, md5: str) -> bool:
        hashed.append(path.name)
        return holds(path, md5)

    monkeypatch.setattr(cifar10, "_holds", watched)
    CIFAR10(tmp_path).prepare()
    assert hashed == []
    path = tmp_path / "cifar-10-batches-py/test_batch"
    path.write_bytes(path.read_bytes()[::-1])  # the same size
    CIFAR10(tmp_path).prepare()
    assert "test_batch" in hashed
    assert len(CIFAR10(tmp_path).load("test").labels) == IMAGES_PER_FILE


def test_archive_in_a_folder_one_may_only_read(command: Command, tmp_path: Path) -> None:
    root = tmp_path / "shared"
    root.mkdir()
    (root / "cifar-10-python.tar.gz").write_bytes(ARCHIVE)
    root.chmod(0o555)
    environ = environment(BELIEFS, [], None)
    ended = command(
        "fit", *CIFAR10_TINY, "--data.source.root", "shared", obeys_permissions=True, **environ
    )
    root.chmod(0o755)
    assert ended.status == 0, ended.stderr
    assert "stays packed" in ended.stderr
    assert [path.name for path in root.iterdir()] == ["cifar-10-python.tar.gz"]


def test_disk_full_while_unpacking(command: Command, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/cifar-10-python.tar.gz").write_bytes(ARCHIVE)
    ended = command("fit", *CIFAR10_TINY, limit_file_size=50_000, **environment(BELIEFS, [], None))
    assert "stays packed (File too large)" in ended.stderr  # and is read as it is
    assert list((tmp_path / "data").rglob("*batch*/*")) == []
    assert ended.status == 0, ended.stderr


def test_pickle_that_wants_more_than_arrays_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(ARCHIVE)
    CIFAR10(tmp_path).prepare()
    touched = tmp_path / "touched"
    code = b"cos\nsystem\n(S'touch %s'\ntR." % str(touched).encode()
    (tmp_path / "cifar-10-batches-py/test_batch").write_bytes(code)
    with pytest.raises(UserError, match=r"system is no part of CIFAR-10"):
        CIFAR10(tmp_path).load("test")
    assert not touched.exists()


def test_archive_with_foreign_paths_stays_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(evil, "w:gz") as tar:
        tar.add(__file__, "../../test_batch")
        tar.add(__file__, "/elsewhere")
    cifar10._unpack(evil, tmp_path / "inner/folder")
    assert [p.name for p in (tmp_path / "inner/folder").iterdir()] == ["test_batch"]
