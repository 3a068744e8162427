"""Pictures of every mode that Pillow writes, in every format that holds it."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, UnidentifiedImageError

from cifar_lightning.data import read_image
from cifar_lightning.errors import UserError

RAMP = np.tile(np.arange(256), (32, 1))  # mean 127.5, from 0 to 255
WIDE = (RAMP * 257).astype("<u2")  # the same in 16 bits
LAB_PROFILE = ImageCms.createProfile("LAB")
SRGB_PROFILE = ImageCms.createProfile("sRGB")


def ramp(mode: str) -> Image.Image:
    """From black to white, left to right; half transparent where a mode can say it."""
    grey = Image.fromarray(RAMP.astype(np.uint8))
    alpha = Image.new("L", grey.size, 128)
    if mode in ("LA", "RGBA"):
        picture = grey.convert(mode)
        picture.putalpha(alpha)
        return picture
    if mode in ("La", "RGBa"):
        return ramp(mode.upper()).convert(mode)
    if mode == "PA":
        return grey.convert("P").convert("PA")
    if mode == "LAB":
        to_lab = ImageCms.buildTransform(SRGB_PROFILE, LAB_PROFILE, "RGB", "LAB")
        converted = ImageCms.applyTransform(grey.convert("RGB"), to_lab)
        assert converted is not None
        return converted
    if mode in ("HSV", "CMYK", "YCbCr", "RGBX"):
        return grey.convert("RGB").convert(mode)
    if mode.startswith("I;16"):
        values = WIDE.astype(">u2") if mode == "I;16B" else WIDE
        return Image.frombytes(mode, grey.size, values.tobytes())
    if mode == "I":
        return Image.fromarray(WIDE.astype(np.int32))
    if mode == "F":
        return Image.fromarray((RAMP / 255).astype(np.float32))
    return grey.convert(mode)


MODES = (
    "1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV",
    "I", "I;16", "I;16L", "I;16B", "I;16N", "F",
)  # fmt: skip
LOSSY = {"AVIF", "GIF", "JPEG", "MPO", "WEBP"}


def written(mode: str, folder: Path) -> dict[str, Path]:
    """The ramp in each format that Pillow writes it in and reads again, by the format's name."""
    Image.init()
    files = {}
    for name in sorted(Image.SAVE):
        path = folder / f"{mode.replace(';', '_')}.{name}"
        try:
            ramp(mode).save(path, name)
            with Image.open(path) as file:
                file.load()
        except (OSError, ValueError, KeyError, SystemError, UnidentifiedImageError):
            continue
        if file.size != (256, 32) or (mode[0] in "IF" and file.mode[0] != mode[0]):
            continue  # Pillow has scaled it, or cut the numbers off, when it wrote them
        files[name] = path
    return files


SURELY_READ = {
    **dict.fromkeys(MODES, frozenset({"TIFF"})),
    "I": {"PPM"}, "I;16": {"PNG", "TIFF", "IM", "PPM", "JPEG2000"},
    **dict.fromkeys(("RGBa", "HSV"), frozenset({"WEBP"})),  # which converts: no format holds these
    **dict.fromkeys(("La", "I;16N", "F"), frozenset[str]()),
}  # fmt: skip


def check_ramp(path: Path, tolerance: float = 0.5) -> None:
    picture = read_image(str(path))
    assert picture.mode == "RGB"
    pixels = np.asarray(picture, dtype=float)
    assert pixels.mean(axis=(0, 1)) == pytest.approx([127.5] * 3, abs=tolerance), path
    assert pixels[:, :4].mean() < 2 + 2 * tolerance, path
    assert pixels[:, -4:].mean() > 253 - 2 * tolerance, path


@pytest.mark.filterwarnings("ignore:IM image format")
@pytest.mark.parametrize("mode", MODES)
def test_mean_and_extremes_are_kept_or_the_mode_is_refused_by_name(
    mode: str, tmp_path: Path
) -> None:
    read = set()
    for name, path in written(mode, tmp_path).items():
        with Image.open(path) as file:
            opened = file.mode
        if opened == "F" or (opened == "I" and name != "PPM"):
            with pytest.raises(UserError) as caught:
                read_image(str(path))
            sentence = f"{path} holds numbers (Pillow's mode {opened}) of which none is white"
            assert str(caught.value).startswith(sentence)
        else:
            check_ramp(path, 4 if name in LOSSY or mode in ("PA", "LAB", "RGBa") else 0.5)
            read.add(name)
    assert read >= SURELY_READ[mode]


def png(bits: int, colour: int, rows: np.ndarray) -> bytes:
    """A PNG, of which Pillow writes no 16-bit colour."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    height, width = rows.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    content = b"".join(b"\0" + row.tobytes() for row in rows)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(content)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(picture: Image.Image, tag: int, value: int) -> bytes:
    """A TIFF that says of itself what Pillow would not."""
    file = io.BytesIO()
    picture.save(file, "TIFF")
    before = struct.pack("<HHI", tag, 3, 1)
    start, found, rest = file.getvalue().partition(before)
    assert found
    return start + found + struct.pack("<I", value) + rest[4:]


def premultiplied(mode: str) -> bytes:
    """A TIFF whose colours are multiplied by their alpha."""
    numbers = ramp(mode).convert(mode[:-1] + "a").tobytes()
    return tiff(Image.frombytes(mode, (256, 32), numbers), 338, 1)


def tiff_of_12_bits() -> bytes:
    """Two numbers in three bytes."""
    numbers = RAMP * 4095 // 255
    even, odd = numbers[:, ::2], numbers[:, 1::2]
    packed = np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], axis=2).astype(np.uint8)
    tags = [(256, 256), (257, 32), (258, 12), (259, 1), (262, 1), (273, 122), (277, 1), (278, 32),
            (279, packed.size)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    start = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    assert len(start) == 122
    return start + packed.tobytes()


COLOURS = np.repeat(WIDE[:, :, None], 4, axis=2).astype(">u2")
RARE = {
    "colours of 16 bits.png": png(16, 2, COLOURS[:, :, :3]),
    "transparent colours of 16 bits.png": png(16, 6, COLOURS),
    "transparent grey of 16 bits.png": png(16, 4, COLOURS[:, :, :2]),
    "12 bits.pgm": b"P5 256 32 4095\n" + (RAMP * 4095 // 255).astype(">u2").tobytes(),
    "12 bits.tif": tiff_of_12_bits(),
    "premultiplied grey.tif": premultiplied("LA"),
    "premultiplied colours.tif": premultiplied("RGBA"),
}


@pytest.mark.parametrize("name", RARE)
def test_kinds_that_pillow_reads_and_does_not_write(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(RARE[name])
    check_ramp(tmp_path / name, 1)


def test_a_16_bit_tiff_in_which_0_is_white(tmp_path: Path) -> None:
    path = tmp_path / "negative.tif"
    path.write_bytes(tiff(ramp("I;16"), 262, 0))
    assert np.array_equal(np.asarray(read_image(str(path)))[:, :, 0], 255 - RAMP)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_16_bits_are_turned_too(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "turned.tif"
    ramp(mode).save(path, tiffinfo={274: 3})  # taken upside down
    assert np.array_equal(np.asarray(read_image(str(path)))[:, :, 0], RAMP[:, ::-1])


def test_a_telescopes_numbers_have_no_white(tmp_path: Path) -> None:
    cards = ["SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 4", "NAXIS2  = 4", "END"]
    header = "".join(f"{card:80}" for card in cards).ljust(2880)
    path = tmp_path / "stars.fits"
    path.write_bytes(header.encode() + bytes(2880))
    with pytest.raises(UserError, match="mode I;16"):
        read_image(str(path))
