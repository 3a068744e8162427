"""Images of one's own, as files."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image

from cifar_lightning.data import ImageFolder, image_folder, read_image
from cifar_lightning.errors import UserError


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
    with pytest.raises(UserError, match=r"0\.png is 64×64: all .* --data\.source\.resize 32"):
        ImageFolder(folder).load("train")
    assert ImageFolder(folder, resize=32).load("train").images[0, 0, 0].tolist() == [7, 8, 9]
    wide = Image.new("RGB", (64, 32))
    wide.paste((9, 9, 9), (16, 0, 48, 32))  # the square in the middle
    wide.save(path)
    with pytest.raises(UserError, match=r"0\.png is 64×32 pixels, not square"):
        ImageFolder(folder).load("train")
    for side in (32, 16):
        image = ImageFolder(folder, resize=side).load("train").images[0]
        assert image.shape == (side, side, 3)
        assert image.unique().tolist() == [9]


def test_decoded_once_until_a_file_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []

    def watched(path: str) -> Image.Image:
        decoded.append(Path(path).name)
        return read_image(path)

    monkeypatch.setattr(image_folder, "read_image", watched)
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

    def watched(path: str) -> Image.Image:
        decoded.append(path)
        return read_image(path)

    monkeypatch.setattr(image_folder, "read_image", watched)
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
