"""torchvision's data sets as a source, from small files in their own formats."""

import hashlib
import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import yaml
from helpers import RUN, last_state, one_sentence
from program import Command
from torchvision import datasets

from cifar_lightning import CIFAR10DataModule
from cifar_lightning.data import Torchvision
from cifar_lightning.errors import UserError


def write_idx(path: Path, values: np.ndarray) -> None:
    """In the format of MNIST's files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + sizes + values.astype(np.uint8).tobytes())


def write_mnist(raw: Path, labels: np.ndarray, prefix: str = "", test: str = "t10k") -> None:
    """Each image 28×28 of the shade of its label times eight; half as many to test on."""
    for split, of_split in (("train", labels), (test, labels[::2])):
        images = np.broadcast_to(8 * of_split[:, None, None], (len(of_split), 28, 28))
        write_idx(raw / f"{prefix}{split}-images-idx3-ubyte", images)
        write_idx(raw / f"{prefix}{split}-labels-idx1-ubyte", of_split)


def test_greyscale_in_one_file(tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST/raw", np.arange(40) % 10)
    source = Torchvision("MNIST", tmp_path)
    assert source.class_names[:2] == ("0 - zero", "1 - one")
    images, labels = source.load("train")
    assert images.shape == (40, 28, 28, 3)
    assert labels.tolist() == [i % 10 for i in range(40)]
    assert torch.equal(images[:, 5, 5], (8 * labels).byte()[:, None].expand(-1, 3))
    assert source.load("test").labels.tolist() == [i % 10 for i in range(0, 40, 2)]
    assert torch.equal(source.load("train").images, images)  # again
    assert Torchvision("MNIST", tmp_path, resize=32).load("test").images.shape == (20, 32, 32, 3)


def test_labels_without_gaps(tmp_path: Path) -> None:
    letters = 1 + np.arange(52) % 26  # 0 is none of them
    write_mnist(tmp_path / "EMNIST/raw", letters, "emnist-letters-", test="test")
    source = Torchvision("EMNIST", tmp_path, options={"split": "letters"})
    assert source.class_names == tuple("abcdefghijklmnopqrstuvwxyz")
    assert source.load("train").labels.tolist() == (letters - 1).tolist()


def write_cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images a class to train on, one to test on; believed to be the real ones."""
    names = [f"thing {i}" for i in range(100)]
    contents: dict[str, Any] = {"meta": {"fine_label_names": names}}
    for split, count in (("train", 300), ("test", 100)):
        labels = [i % 100 for i in range(count)]
        data = np.repeat(np.array(labels, dtype=np.uint8)[:, None], 3072, axis=1)
        contents[split] = {"data": data, "fine_labels": labels}
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    md5 = {}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
        md5[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    of = datasets.CIFAR100
    monkeypatch.setattr(of, "train_list", [["train", md5["train"]]])
    monkeypatch.setattr(of, "test_list", [["test", md5["test"]]])
    monkeypatch.setattr(of, "meta", {**of.meta, "md5": md5["meta"]})


def test_a_hundred_classes_in_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar100(tmp_path, monkeypatch)
    data = CIFAR10DataModule(Torchvision("CIFAR100", tmp_path))
    data.prepare_data()
    data.setup("fit")
    assert data.num_classes == 100
    assert data.source.class_names[7] == "thing 7"
    assert data.val_size == 0.1
    assert len(data.splits.validation.indices) == 30
    images, labels = data.splits.validation.take()
    assert torch.equal(images[:, 3, 3, 2].long(), labels)


def test_what_torchvision_says_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise URLError("no route\nto host")

    monkeypatch.setattr(datasets.cifar, "download_and_extract_archive", unreachable)
    monkeypatch.setattr(datasets.mnist, "download_and_extract_archive", unreachable)

    def sentence(name: str) -> str:
        with pytest.raises(UserError) as caught:
            Torchvision(name, tmp_path).load("train")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    for name in ("CIFAR100", "MNIST"):
        assert f"{name} cannot be read from {tmp_path}" in sentence(name)
        assert "no route to host" in sentence(name)
    write_cifar100(tmp_path, monkeypatch)
    (tmp_path / "cifar-100-python/train").write_bytes(b"damaged")
    assert "no route to host" in sentence("CIFAR100")
    write_mnist(tmp_path / "MNIST/raw", np.arange(10))
    (tmp_path / "MNIST/raw/train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03damaged")
    assert f"MNIST cannot be read from {tmp_path}" in sentence("MNIST")


def test_a_run(command: Command, tmp_path: Path) -> None:
    write_mnist(tmp_path / "data/FashionMNIST/raw", np.arange(60) % 10)
    flags = (
        "--data.source", "Torchvision", "--data.source.name", "FashionMNIST",
        "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu",
        "--dashboard.pictures_every_n_epochs", "0",
    )  # fmt: skip
    refused = one_sentence(command("fit", *flags))
    assert "AlexNet cannot take images of 28×28 pixels: it takes 32×32" in refused
    assert "--data.source.resize 32" in refused
    assert not (tmp_path / "lightning_logs").exists()
    scaled = (*flags, "--data.source.resize", "32", "--model.net", "stand_ins.Tiny")
    ended = command("fit", *scaled)
    assert ended.status == 0, ended.stderr
    assert "10 classes, training on 54 images, validating on 6 held out of them" in ended.stderr
    assert yaml.safe_load((tmp_path / RUN / "config.yaml").read_text())["data"]["val_size"] == 0.1
    assert last_state(tmp_path / RUN)["cifar_lightning"]["class_names"][0] == "T-shirt/top"
    assert command("test").status == 0
