"""From pixels to what a network is given, and back."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Normalisation:
    """Maps uint8 N×H×W×3 to float32 N×3×H×W, on the images' own device.

    Args:
        mean: subtracted from each channel, on the scale where pixels go from 0 to 1.
        std: each channel is divided by it after that.

    Raises:
        ValueError: these are not three numbers each, or a deviation is not above 0;
            or they are not finite.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        three = all(isinstance(of, Sequence) and len(of) == 3 for of in (mean, std))
        if not three or min(std) <= 0:
            raise ValueError(
                f"data.mean {mean} and data.std {std} must be three numbers each, "
                "one for each channel, those of std above 0"
            )
        # (x / 255 − mean) / std as one multiplication and one addition
        self._scale = 1 / (255 * torch.tensor(std))
        self._shift = -torch.tensor(mean) / torch.tensor(std)
        if not torch.isfinite(torch.stack([self._scale, self._shift])).all():
            raise ValueError(
                f"data.mean {list(mean)} and data.std {list(std)} must be finite numbers, those "
                "of std large enough to divide by"
            )

    def __call__(self, images: Tensor) -> Tensor:
        self._scale = self._scale.to(images.device)
        self._shift = self._shift.to(images.device)
        pixels = images.float().contiguous()
        # a row of pixels at a time: three channels alone are too short for a CPU's vectors
        width = pixels.shape[2]
        rows = pixels.view(-1, width * len(self._scale))
        rows.mul_(self._scale.repeat(width)).add_(self._shift.repeat(width))
        return pixels.permute(0, 3, 1, 2)

    def inverse(self, images: Tensor) -> Tensor:
        """The pictures that a network sees: from N×3×H×W, normalised, to uint8 N×H×W×3."""
        pixels = (images.float().permute(0, 2, 3, 1) - self._shift) / self._scale
        return pixels.round().clamp(0, 255).byte()
