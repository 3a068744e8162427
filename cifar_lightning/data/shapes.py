"""Ten shapes, drawn by the program: a data set that needs no file."""

import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw

from cifar_lightning.data.randomness import shapes_generator
from cifar_lightning.data.source import LabelledImages, Source, Split

_SPLITS: dict[Split, int] = {"train": 0, "test": 1}
_TEST_SHARE = 5  # one test image for so many training images, as in CIFAR-10
_SCALE = 4  # drawn at so many times the size, then reduced: smooth edges

Points = list[tuple[float, float]]


def _polygon(corners: int, inner: float = 1.0) -> Points:
    """A regular polygon of radius 1; with ``inner`` below 1 a star with twice the corners."""
    radii = [1.0] if inner == 1.0 else [1.0, inner]
    count = corners * len(radii)
    return [
        (radii[i % len(radii)] * math.sin(a), -radii[i % len(radii)] * math.cos(a))
        for i, a in enumerate(2 * math.pi * np.arange(count) / count)
    ]


def _half_circle() -> Points:
    return [(math.cos(a), math.sin(a) - 0.4) for a in np.linspace(0, math.pi, 20)]


def _crescent() -> Points:
    outer = [(math.cos(a), math.sin(a)) for a in np.linspace(0.9, 2 * math.pi - 0.9, 30)]
    inner = [(0.45 + 0.8 * math.cos(a), 0.8 * math.sin(a)) for a in np.linspace(4.9, 1.38, 30)]
    return outer + inner


def _arrow() -> Points:
    return [(0, -1), (0.8, 0), (0.3, 0), (0.3, 1), (-0.3, 1), (-0.3, 0), (-0.8, 0)]


def _cross() -> Points:
    w = 0.33
    return [
        (-w, -1), (w, -1), (w, -w), (1, -w), (1, w), (w, w),
        (w, 1), (-w, 1), (-w, w), (-1, w), (-1, -w), (-w, -w),
    ]  # fmt: skip


_SHAPES: dict[str, Callable[[], Points]] = {
    "arrow": _arrow,
    "circle": lambda: _polygon(60),
    "crescent": _crescent,
    "cross": _cross,
    "half_circle": _half_circle,
    "hexagon": lambda: _polygon(6),
    "pentagon": lambda: _polygon(5),
    "square": lambda: _polygon(4),
    "star": lambda: _polygon(5, inner=0.42),
    "triangle": lambda: _polygon(3),
}


class Shapes(Source):
    """Ten classes of 32×32 pictures: a shape of any colour, place, size and turn on a background
    of noise, often half hidden by a bar.

    A stand-in for a data set, not a constant: accuracy climbs over epochs, and a network can
    overfit it.

    Args:
        size: the number of training images, a multiple of 10; a fifth as many test images.
        seed: other seeds give other images of the same kind.
    """

    def __init__(self, size: int = 10_000, seed: int = 0) -> None:
        if size < 50 or size % 50:
            raise ValueError(f"size {size} must be a positive multiple of 50")
        self.size = size
        self.seed = seed

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(_SHAPES)

    def load(self, split: Split) -> LabelledImages:
        count = self.size if split == "train" else self.size // _TEST_SHARE
        numbers = shapes_generator(self.seed, _SPLITS[split])
        outlines = [np.array(outline()) for outline in _SHAPES.values()]
        labels = numbers.permutation(np.arange(count) % len(outlines))
        images = np.stack([_draw(outlines[label], numbers) for label in labels])
        return LabelledImages(torch.from_numpy(images), torch.from_numpy(labels))


def _draw(outline: np.ndarray, numbers: np.random.Generator) -> np.ndarray:
    side = 32 * _SCALE
    radius = numbers.uniform(0.2, 0.42) * side
    turn = numbers.uniform(-math.pi, math.pi)
    squeeze = numbers.uniform(0.75, 1.0)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    centre = numbers.uniform(0.5 * radius, side - 0.5 * radius, size=2)
    points = (outline * (1, squeeze)) @ rotation.T * radius + centre

    background = numbers.uniform(0, 255, size=3)
    colour = background + numbers.choice([-1, 1], size=3) * numbers.uniform(25, 110, size=3)
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
