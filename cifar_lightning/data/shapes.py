"""Ten shapes, drawn by the program: a data set that needs no file."""

import math

import numpy as np
import torch
from PIL import Image, ImageDraw

from cifar_lightning.data.randomness import shapes_generator
from cifar_lightning.data.source import LabelledImages, Source, Split

_SPLITS: dict[Split, int] = {"train": 0, "test": 1}
_TEST_SHARE = 5  # one test image for so many training images, as in CIFAR-10
_SCALE = 4  # drawn at so many times the size, then reduced: smooth edges

Points = list[tuple[float, float]]


def _arc(start: float, end: float, radius: float = 1.0, x: float = 0.0) -> Points:
    return [(x + radius * math.cos(a), radius * math.sin(a)) for a in np.linspace(start, end, 40)]


def _star(points: int, inner: float) -> Points:
    """``points`` corners at radius 1, as many between them at radius ``inner``."""
    return [
        ((1.0, inner)[i % 2] * math.sin(a), -(1.0, inner)[i % 2] * math.cos(a))
        for i, a in enumerate(math.pi * np.arange(2 * points) / points)
    ]


_W = 0.3  # half the width of a stroke

# Outlines within the unit circle, y pointing down as in an image.
_SHAPES: dict[str, Points] = {
    "arrow": [(0, -1), (0.8, 0), (_W, 0), (_W, 1), (-_W, 1), (-_W, 0), (-0.8, 0)],
    "bar": [(-_W, -1), (_W, -1), (_W, 1), (-_W, 1)],
    "circle": _arc(0, 2 * math.pi),
    "crescent": _arc(0.9, 2 * math.pi - 0.9) + _arc(4.9, 1.38, radius=0.8, x=0.45),
    "cross": [
        (-_W, -1), (_W, -1), (_W, -_W), (1, -_W), (1, _W), (_W, _W),
        (_W, 1), (-_W, 1), (-_W, _W), (-1, _W), (-1, -_W), (-_W, -_W),
    ],
    "half_disc": [(x, y - 0.4) for x, y in _arc(0, math.pi)],
    "ring": _arc(0, 2 * math.pi) + _arc(2 * math.pi, 0, radius=0.55),
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "star": _star(5, inner=0.42),
    "triangle": _star(3, inner=0.5),
}  # fmt: skip


class Shapes(Source):
    """Ten classes of 32×32 pictures: a shape of any colour, place, size and tilt on a noisy ground,
    half of them crossed by a line.

    A stand-in for a data set, not a constant: accuracy climbs over epochs, and a network can
    overfit it.

    Args:
        size: the number of training images, a multiple of 10; a fifth as many test images.
        seed: other seeds give other images of the same kind.
    """

    def __init__(self, size: int = 10_000, seed: int = 0) -> None:
        if size < 50 or size % 50:
            raise ValueError(f"data.source.size {size} must be a positive multiple of 50")
        self.size = size
        self.seed = seed

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(_SHAPES)

    def load(self, split: Split) -> LabelledImages:
        count = self.size if split == "train" else self.size // _TEST_SHARE
        numbers = shapes_generator(self.seed, _SPLITS[split])
        outlines = [np.array(outline) for outline in _SHAPES.values()]
        labels = numbers.permutation(np.arange(count) % len(outlines))
        images = np.stack([_draw(outlines[label], numbers) for label in labels])
        return LabelledImages(torch.from_numpy(images), torch.from_numpy(labels))


def _draw(outline: np.ndarray, numbers: np.random.Generator) -> np.ndarray:
    side = 32 * _SCALE
    radius = numbers.uniform(0.26, 0.44) * side
    turn = numbers.uniform(-0.35, 0.35)
    squeeze = numbers.uniform(0.75, 1.0)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    centre = side / 2 + numbers.uniform(-0.16, 0.16, size=2) * side
    points = (outline * (1, squeeze)) @ rotation.T * radius + centre

    background = numbers.uniform(0, 120, size=3)
    colour = background + numbers.uniform(25, 135, size=3)
    canvas = Image.new("RGB", (side, side), tuple(background.astype(int)))
    pen = ImageDraw.Draw(canvas)
    pen.polygon([tuple(p) for p in points], fill=_rgb(colour))
    if numbers.random() < 0.5:
        ends = numbers.uniform(0, side, size=4)
        width = int(numbers.uniform(1, 4) * _SCALE)
        pen.line(tuple(ends), fill=_rgb(numbers.uniform(0, 255, size=3)), width=width)
    small = np.asarray(canvas.reduce(_SCALE), dtype=np.float32)
    noise = numbers.standard_normal(small.shape, dtype=np.float32) * numbers.uniform(5, 30)
    return np.clip(small + noise, 0, 255).astype(np.uint8)


def _rgb(colour: np.ndarray) -> tuple[int, int, int]:
    r, g, b = np.clip(colour, 0, 255).astype(int).tolist()
    return r, g, b
