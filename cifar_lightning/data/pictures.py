"""Reading pictures: whatever Pillow reads, in RGB, in one size."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin

from cifar_lightning.errors import UserError

# A palette with transparency is no reason to worry. For good, as threads share the filters.
warnings.filterwarnings("ignore", module=r"PIL\.")

_AT_ONCE = 512  # pictures that threads decode ahead
# formats whose 16-bit numbers go from black, 0, to white; in astronomy's they go anywhere
_SIXTEEN_BITS = {"ICNS", "ICO", "IM", "JPEG2000", "PNG", "TIFF"}
_NOT_IMAGES = {"thumbs.db", "desktop.ini"}  # what file managers leave behind


def read_all(
    names: Sequence[str],
    picture: Callable[[int], Image.Image],
    resize: int | None,
    threads: int = 1,
) -> np.ndarray:
    """Put pictures into one array.

    Args:
        names: of the N pictures, for messages.
        picture: gives each by its number.
        resize: cut each to the square in its middle, and scale it to so many pixels a side; if
            None, all must be square and have the same size.
        threads: how many call ``picture`` beside each other; one calls it in order.

    Returns:
        uint8 N×side×side×3.

    Raises:
        UserError: a picture has another size than it must have, or they are too large for memory.
    """
    first = picture(0)
    width, height = first.size
    if resize is None and width != height:
        raise UserError(
            f"{names[0]} is {width}×{height} pixels, not square: cut it, or have all images cut to "
            "the square in their middle and scaled, with --data.source.resize 32."
        )
    side = resize or width
    try:
        images = np.empty((len(names), side, side, 3), dtype=np.uint8)
    except MemoryError:
        gigabytes = len(names) * side * side * 3 / 1e9
        raise UserError(
            f"{len(names):,} images of {side}×{side} pixels take {gigabytes:,.0f} GB, which this "
            "machine does not have in memory: give a smaller --data.source.resize."
        ) from None

    def pixels(number: int) -> np.ndarray:
        image = picture(number) if number else first
        if image.size != (side, side) and resize is None:
            raise UserError(
                f"{names[number]} is {image.width}×{image.height} pixels, where {names[0]} is "
                f"{side}×{side}: all must have the same size, or be cut and scaled with "
                "--data.source.resize 32."
            )
        return square(image, side)

    for number, of_picture in enumerate(_mapped(pixels, len(names), threads)):
        images[number] = of_picture
    return images


def _mapped(pixels: Callable[[int], np.ndarray], count: int, threads: int) -> Iterator[np.ndarray]:
    if threads == 1:
        yield from map(pixels, range(count))
        return
    with ThreadPoolExecutor(threads) as pool:  # Pillow lets go of Python's lock
        for start in range(0, count, _AT_ONCE):
            yield from pool.map(pixels, range(start, min(start + _AT_ONCE, count)))


def square(picture: Image.Image, side: int) -> np.ndarray:
    """The square in the middle of a picture, scaled: uint8 side×side×3."""
    if picture.size != (side, side):
        picture = ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS)
    return np.array(picture)


def read_image(path: str) -> Image.Image:
    """Read a picture in any format of Pillow, in RGB, turned as its EXIF says.

    Black stays black and white stays white, whatever the number of bits. Transparent pixels keep
    the colour that the file gives them; alpha is dropped, as torchvision's ``ImageFolder`` does.

    Raises:
        UserError: it cannot be read, or its numbers have no white; names it.
    """
    try:
        with Image.open(path) as file:
            return as_rgb(file, path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise UserError(f"{path} cannot be read as an image ({reason}): mend or remove it.") from (
            error
        )


def as_rgb(file: Image.Image, name: str) -> Image.Image:
    """A picture that was opened or made, as ``read_image`` gives it. ``name`` is for messages."""
    white = _white(name, file) if file.mode.startswith(("I", "F")) else None
    picture = ImageOps.exif_transpose(file)
    if white is not None:
        return _grey(np.asarray(picture), *white).convert("RGB")
    if picture.mode == "La":  # Pillow undoes premultiplication in this one step alone
        picture = picture.convert("LA")
    return picture.convert("RGB")


def _white(path: str, file: Image.Image) -> tuple[int, bool]:
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
