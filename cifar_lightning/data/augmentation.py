"""Flip, translation, colours and cutout: whole batches, on the images' own device."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cifar_lightning.data.randomness import augmentation_numbers, colour_numbers, mirrored_first
from cifar_lightning.errors import UsageError

Flip = bool | Literal["alternating"]

_GREY = (0.299, 0.587, 0.114)
"""How bright red, green and blue are, as in Rec. 601."""

_STEPS = 1 << 16
"""Of a number from 0 to 1 that is drawn for a colour."""


@dataclass(frozen=True)
class Augmentation:
    """What happens to training images, to each by its own draw.

    Args:
        flip: mirror every second image, on average, left to right; or "alternating": each image in
            every other epoch, half of them in the first, so that no two epochs in a row show the
            same side of one. Jordan 2024, https://arxiv.org/abs/2404.00498.
        translate: shift by up to so many pixels in each direction, each shift being as likely; the
            image goes on outside its edge as its own reflection (the edge pixel not repeated).
        cutout: blank a square of so many pixels with the mean colour. Its centre is any pixel with
            the same probability, so that it may reach over the edge: DeVries and Taylor 2017,
            https://arxiv.org/abs/1708.04552.
        jitter: brightness, contrast and saturation are each multiplied by a number between
            1 − jitter and 1 + jitter, as by torchvision's ``ColorJitter``, but that nothing is
            clipped.

    Raises:
        ValueError: flip is none of these, a number of pixels is below 0, or jitter is not from 0
            to 1.
    """

    flip: Flip = False
    translate: int = 0
    cutout: int = 0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        for name, pixels in (("translate", self.translate), ("cutout", self.cutout)):
            if pixels < 0:
                raise ValueError(f"data.{name} {pixels} must be a number of pixels, 0 for none")
        if self.flip not in (False, True, "alternating"):
            raise ValueError(f"data.flip {self.flip!r} must be true, false or alternating")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"data.jitter {self.jitter} must be from 0, for none, to 1")

    def __bool__(self) -> bool:
        return bool(self.flip or self.translate or self.cutout or self.jitter)

    def check(self, side: int) -> None:
        """Whether images of so many pixels a side can be augmented so. Raises UsageError."""
        if self.translate >= side:
            raise UsageError(
                f"--data.translate {self.translate} is more than images of {side} pixels have to "
                "reflect: it must be smaller."
            )
        if self.cutout >= side:
            raise UsageError(
                f"--data.cutout {self.cutout} would blank whole images, which have {side} pixels a "
                "side: it must be smaller."
            )

    def draws(self, order: Tensor, epoch: int, side: int, seed: int) -> Tensor:
        """What happens to each image of an epoch: a row for each place in the epoch's order.

        Args:
            order: int64 N, the images of the epoch.
            epoch: its number.
            side: height and width of an image, in pixels.
            seed: of the run.

        Returns:
            int32, N×5: whether it is flipped; rows and columns to move by; row and column of
            the cutout's centre. With jitter N×8: and brightness, contrast, saturation, from 0
            to 65,535.
        """
        numbers = augmentation_numbers(len(order), 5, seed, epoch)
        span = 2 * self.translate + 1
        drawn = numbers * torch.tensor([2, span, span, side, side], dtype=torch.float64)
        drawn = drawn.int()  # rounds down
        if self.flip == "alternating":
            first = mirrored_first(int(order.max()) + 1, seed)[order]
            drawn[:, 0] = ~first if epoch % 2 else first
        else:
            drawn[:, 0] *= self.flip
        drawn[:, 1:3] -= self.translate
        if self.jitter:
            colours = colour_numbers(len(order), 3, seed, epoch) * _STEPS
            drawn = torch.cat([drawn, colours.int()], dim=1)
        return drawn

    def move(self, images: Tensor, draws: Tensor) -> Tensor:
        """Flip and translate uint8 N×H×W×3, square, by int32 N×5 as ``draws`` gives them."""
        if not (self.flip or self.translate):
            return images
        n, side = images.shape[:2]
        last = side - 1
        place = torch.arange(side, dtype=torch.int32, device=images.device)
        mirrored = draws[:, :1]
        rows = place + draws[:, 1:2]
        columns = place * (1 - 2 * mirrored) + last * mirrored + draws[:, 2:3]
        rows, columns = (last - (last - index.abs()).abs() for index in (rows, columns))
        image = torch.arange(n, dtype=torch.int32, device=images.device)[:, None] * side
        pixels = ((image + rows) * side)[:, :, None] + columns[:, None, :]
        # one look-up of whole pixels: on a CPU three times as fast as padding and windows of floats
        return images.reshape(-1, 3).index_select(0, pixels.flatten()).view_as(images)

    def recolour(self, images: Tensor, draws: Tensor) -> Tensor:
        """Change the colours of uint8 N×H×W×3; float32, from 0 to 255 and somewhat beyond, if so.

        Brightness first, then contrast, about the mean grey of the image, then saturation, about
        the grey of each pixel. Together that is a multiple of the image, one of its greys, and one
        of its mean grey.
        """
        if not self.jitter:
            return images
        factors = 1 + self.jitter * (draws[:, 5:8].float() * (2 / (_STEPS - 1)) - 1)
        brightness, contrast, saturation = factors[:, :, None, None].unbind(1)
        pixels = images.float()
        red, green, blue = pixels.unbind(3)
        grey = _GREY[0] * red + _GREY[1] * green + _GREY[2] * blue  # N×H×W
        mean = grey.mean(dim=(1, 2), keepdim=True)
        scale = brightness * contrast
        same = scale * (1 - saturation) * grey + brightness * (1 - contrast) * mean
        return pixels.mul_((scale * saturation)[..., None]).add_(same[..., None])

    def blank(self, images: Tensor, draws: Tensor) -> Tensor:
        """Cut out of normalised float N×3×H×W; 0 is the mean colour there."""
        if not self.cutout:
            return images
        place = torch.arange(images.shape[-1], dtype=torch.int32, device=images.device)
        first = draws[:, 3:5, None] - self.cutout // 2
        inside = (place >= first) & (place < first + self.cutout)  # N×2×side
        return images.masked_fill(inside[:, None, 0, :, None] & inside[:, None, 1, None, :], 0)
