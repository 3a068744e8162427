"""The data module and its sources: which images, in which order, with which values."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cifar_lightning import CIFAR10DataModule
from cifar_lightning.data import ImageFolder, Shapes
from cifar_lightning.data.batches import Batches
from cifar_lightning.data.randomness import epoch_order, stratified_split
from cifar_lightning.data.source import LabelledImages, Split
from cifar_lightning.errors import UserError


def test_order_is_a_function_of_seed_and_epoch() -> None:
    orders = {
        (seed, epoch): epoch_order(1000, seed, epoch) for seed in range(3) for epoch in range(3)
    }
    for (seed, epoch), order in orders.items():
        assert sorted(order.tolist()) == list(range(1000))
        assert torch.equal(order, epoch_order(1000, seed, epoch))
    assert len({tuple(order.tolist()) for order in orders.values()}) == len(orders)


def test_drawing_numbers_elsewhere_changes_nothing() -> None:
    before = epoch_order(100, 1, 2)
    torch.rand(5)
    torch.manual_seed(9)
    state = torch.get_rng_state()
    assert torch.equal(before, epoch_order(100, 1, 2))
    assert torch.equal(state, torch.get_rng_state())


def test_split_is_stratified_and_from_the_seed_alone() -> None:
    labels = torch.arange(1000) % 10
    train, held_out = stratified_split(labels, 200, seed=1)
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(1000))
    assert Counter(labels[held_out].tolist()) == dict.fromkeys(range(10), 20)
    assert torch.equal(held_out, stratified_split(labels, 200, seed=1)[1])
    assert not torch.equal(held_out, stratified_split(labels, 200, seed=2)[1])


@pytest.mark.parametrize("val_size", [-10, 15, 1000, 2000])
def test_split_that_cannot_be(val_size: int) -> None:
    with pytest.raises(ValueError, match=f"val_size {val_size}"):
        stratified_split(torch.arange(1000) % 10, val_size, seed=1)


def test_batches_go_through_the_epoch_once_and_from_any_position() -> None:
    images = torch.arange(103, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 2, 2, 3)
    data = LabelledImages(images, torch.arange(103))
    for first in range(11):
        position = (3, first)
        batches = Batches(data, 10, lambda e: epoch_order(103, 5, e), lambda p=position: p)  # type: ignore[misc]
        assert len(batches) == 11
        labels = [label for _, batch in batches for label in batch.tolist()]
        assert labels == epoch_order(103, 5, 3)[first * 10 :].tolist()
    for pixels, label in batches:
        assert torch.equal(pixels[:, 0, 0, 0].long(), label)


def test_normalised_values() -> None:
    data = CIFAR10DataModule(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    images = torch.randint(0, 256, (4, 5, 6, 3), dtype=torch.uint8)
    expected = (images.permute(0, 3, 1, 2) / 255 - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / (
        torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    )
    normalised = data.normalise(images)
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised, expected)


def test_the_test_split_is_read_by_test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Split] = []
    load = Shapes.load

    def watched(self: Shapes, split: Split) -> LabelledImages:
        read.append(split)
        return load(self, split)

    monkeypatch.setattr(Shapes, "load", watched)
    for stage in ("fit", "validate", "predict"):
        CIFAR10DataModule(Shapes(100), val_size=20).setup(stage)
    assert read == ["train"] * 3
    CIFAR10DataModule(Shapes(100), val_size=20).setup("test")
    assert read[3:] == ["test"]
    article = CIFAR10DataModule(Shapes(100), val_size=0)
    article.setup("fit")
    assert read[4:] == ["train", "test"]
    assert len(article.val_dataloader()) == 1
    assert article.val_dataloader().images_per_epoch == 20


def test_shapes_are_balanced_and_from_the_seed() -> None:
    one, same, other = (Shapes(200, seed=seed).load("train") for seed in (1, 1, 2))
    assert one.images.shape == (200, 32, 32, 3)
    assert one.images.dtype == torch.uint8
    assert one.labels.dtype == torch.int64
    assert Counter(one.labels.tolist()) == dict.fromkeys(range(10), 20)
    assert torch.equal(one.images, same.images)
    assert not torch.equal(one.images, other.images)
    assert not torch.equal(Shapes(200).load("test").images, Shapes(200).load("train").images[:40])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes; the red channel of an image is its number."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    for split, count in (("train", 6), ("test", 2)):
        for label, name in enumerate(("dots", "stripes")):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (32, 32), (number, label, 7))
                image.save(tmp_path / split / name / f"{number}.png")
    (tmp_path / "train/dots/.hidden").write_text("no image")
    return tmp_path


def test_image_folder(folder: Path) -> None:
    source = ImageFolder(folder)
    assert source.class_names == ("dots", "stripes")
    images, labels = source.load("train")
    assert labels.tolist() == [0] * 6 + [1] * 6
    assert images[:, 5, 5].tolist() == [[n, label, 7] for label in (0, 1) for n in range(6)]


def test_images_of_every_kind(folder: Path) -> None:
    grey = Image.new("L", (32, 32), 90)
    cases = {
        "grey.jpg": (grey, (90, 90, 90)),
        "palette.bmp": (grey.convert("P"), (90, 90, 90)),
        "clear.png": (Image.new("RGBA", (32, 32), (10, 20, 30, 128)), (10, 20, 30)),
        "clear.webp": (Image.new("RGB", (32, 32), (90, 90, 90)), (90, 90, 90)),
        "print.tif": (Image.new("CMYK", (32, 32), (0, 255, 255, 0)), (255, 0, 0)),
    }
    for path in (folder / "train/dots").iterdir():
        path.unlink()
    for name, (image, _) in cases.items():
        image.save(folder / "train/dots" / name)
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
        (folder / "train/dots" / name).write_text("no image")
    images, _ = ImageFolder(folder).load("train")
    for row, name in zip(images, sorted(cases), strict=False):
        assert torch.allclose(row[9, 9].float(), torch.tensor(cases[name][1]).float(), atol=3), name


def test_exif_rotation(folder: Path) -> None:
    image = Image.new("RGB", (32, 32))
    image.paste((255, 255, 255), (0, 0, 32, 16))  # the upper half is white
    turned = Image.Exif()
    turned[0x0112] = 3  # taken upside down
    image.save(folder / "train/dots/0.png", exif=turned)
    images, _ = ImageFolder(folder).load("train")
    assert images[0, 4, 16].tolist() == [0, 0, 0]
    assert images[0, 28, 16].tolist() == [255, 255, 255]


def test_resize_on_request(folder: Path) -> None:
    path = folder / "train/dots/0.png"
    Image.new("RGB", (64, 64), (7, 8, 9)).save(path)
    with pytest.raises(UserError, match=r"0\.png is 64×64 .* --data\.source\.resize 32"):
        ImageFolder(folder).load("train")
    assert ImageFolder(folder, resize=32).load("train").images[0, 0, 0].tolist() == [7, 8, 9]
    Image.new("RGB", (64, 32)).save(path)
    with pytest.raises(UserError, match=r"0\.png is 64×32 pixels, not square"):
        ImageFolder(folder, resize=32).load("train")


def test_decoded_once_until_a_file_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    decode = ImageFolder._decode

    def watched(self: ImageFolder, path: str) -> np.ndarray:
        decoded.append(Path(path).name)
        return decode(self, path)

    monkeypatch.setattr(ImageFolder, "_decode", watched)
    first = ImageFolder(folder).load("train")
    again = ImageFolder(folder).load("train")
    assert len(decoded) == 12
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    Image.new("RGB", (32, 32), (200, 200, 200)).save(folder / "train/dots/3.png")
    assert ImageFolder(folder).load("train").images[3, 0, 0].tolist() == [200, 200, 200]
    assert len(decoded) == 24
    (cache,) = (folder / ".cache/cifar_lightning").glob("*.npy")
    cache.write_bytes(cache.read_bytes()[:100])
    assert ImageFolder(folder).load("train").images[3, 0, 0].tolist() == [200, 200, 200]


def test_processes_decode_once_and_share_the_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    decode = ImageFolder._decode

    def watched(self: ImageFolder, path: str) -> np.ndarray:
        decoded.append(path)
        return decode(self, path)

    monkeypatch.setattr(ImageFolder, "_decode", watched)
    with ThreadPoolExecutor(4) as threads:
        loaded = list(threads.map(lambda _: ImageFolder(folder).load("train"), range(4)))
    assert len(decoded) == 12
    (cache,) = (folder / ".cache/cifar_lightning").glob("*.npy")
    mapped = Path("/proc/self/maps")
    if mapped.exists():
        assert mapped.read_text().count(str(cache)) == len(loaded)


def test_image_folder_says_what_is_wrong(folder: Path) -> None:
    def message() -> str:
        with pytest.raises(UserError) as caught:
            ImageFolder(folder).load("train")
        return str(caught.value)

    file = folder / "train/dots/9.png"
    (folder / "train/dots/more").mkdir()
    assert "more is a folder within a class" in message()
    (folder / "train/dots/more").rmdir()
    file.write_text("text")
    assert f"{file} cannot be read as an image" in message()
    Image.new("RGB", (28, 32)).save(file)
    assert f"{file} is 28×32" in message()
    for path in (folder / "train/dots").iterdir():
        path.unlink()
    assert f"{folder / 'train/dots'} holds no images" in message()
    (folder / "train").rename(folder / "training")
    assert f"{folder / 'train'} is not a folder" in message()
    with pytest.raises(UserError, match=r"--data\.source\.root"):
        ImageFolder(folder / "nowhere").load("test")


def test_image_folder_whose_splits_differ(folder: Path) -> None:
    (folder / "test/dots").rename(folder / "test/spots")
    with pytest.raises(UserError, match="dots, spots"):
        ImageFolder(folder).load("test")
