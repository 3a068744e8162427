"""Randomness is a function, not a state.

Every random choice about the data is computed from where it stands: the order of an epoch and the
augmentation of each place in it from (seed, epoch), the held-out split from the seed alone. Nothing
is drawn from a global generator during training, so there is no generator state to save, to restore
or to keep in step between processes: exact resume and exact repetition follow.
"""

import numpy as np
import torch
from torch import Tensor

# What the numbers are drawn for. Different purposes must not share a stream of numbers.
_ORDER, _SPLIT, _SHAPES, _AUGMENTATION, _COLOUR, _MIRROR = range(6)


def _generator(seed: int, purpose: int, *position: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, *position)))


def epoch_order(size: int, seed: int, epoch: int) -> Tensor:
    """The order in which an epoch goes through its images: a permutation of ``range(size)``.

    Returns:
        int64, N = size.
    """
    return torch.from_numpy(_generator(seed, _ORDER, epoch).permutation(size))


def augmentation_numbers(size: int, each: int, seed: int, epoch: int) -> Tensor:
    """What the augmentation of an epoch's images is made from, by their place in its order.

    Returns:
        float64, size×each, uniform in [0, 1).
    """
    return torch.from_numpy(_generator(seed, _AUGMENTATION, epoch).random((size, each)))


def colour_numbers(size: int, each: int, seed: int, epoch: int) -> Tensor:
    """As ``augmentation_numbers``, for what is done to the images' colours."""
    return torch.from_numpy(_generator(seed, _COLOUR, epoch).random((size, each)))


def mirrored_first(size: int, seed: int) -> Tensor:
    """Which images are mirrored in the epochs 0, 2, 4, … where each is in every other one.

    Returns:
        bool, N = size; of the first images the same, however many there are.
    """
    return torch.from_numpy(_generator(seed, _MIRROR).random(size)) < 0.5


def stratified_split(labels: Tensor, val_size: int | float, seed: int) -> tuple[Tensor, Tensor]:
    """Hold out images of every class, and keep at least one of each to train on.

    Args:
        labels: int64, N.
        val_size: a number of images, as many of each class as it goes, the first of what is left
            over from the largest; or a share below 1, of every class the same.

    Returns:
        The indices of the images to train on and of those held out, int64, each in rising order.

    Raises:
        ValueError: so many cannot be spared.
    """
    classes, sizes = torch.unique(labels, return_counts=True)
    of_each = _shares(sizes, val_size) if isinstance(val_size, float) else _even(sizes, val_size)
    generator = _generator(seed, _SPLIT)
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for label, count in zip(classes, of_each.tolist(), strict=True):
        members = torch.nonzero(labels == label).flatten()
        chosen = torch.from_numpy(generator.permutation(len(members))[:count])
        held_out[members[chosen]] = True
    return torch.nonzero(~held_out).flatten(), torch.nonzero(held_out).flatten()


def _even(sizes: Tensor, count: int) -> Tensor:
    """How many of ``count`` images each class gives, by its size; int64 K."""
    _check_spared(sizes, count)
    given = torch.zeros_like(sizes)
    while count > 0:
        spare = sizes - 1 - given
        each = count // int((spare > 0).sum())
        if each == 0:  # one more of some classes: those that have the most to spare
            given[spare.argsort(descending=True, stable=True)[:count]] += 1
            break
        more = spare.clamp(max=each)
        given += more
        count -= int(more.sum())
    return given


def _shares(sizes: Tensor, share: float) -> Tensor:
    """How many images each class gives for a share of all; int64 K. A class of one gives none."""
    exact = share * torch.where(sizes > 1, sizes, 0).double()
    count = max(1, round(float(exact.sum())))
    _check_spared(sizes, count)
    given = torch.minimum(exact.long(), sizes - 1)  # rounded down
    while (left := count - int(given.sum())) > 0:
        missing = torch.where(given < sizes - 1, exact - given, -torch.inf)
        able = min(left, int((given < sizes - 1).sum()))
        given[missing.argsort(descending=True, stable=True)[:able]] += 1
    return given


def _check_spared(sizes: Tensor, count: int) -> None:
    """Raises ValueError."""
    most = int(sizes.sum()) - len(sizes)
    if count > most:
        raise ValueError(
            f"of {int(sizes.sum()):,} training images at most {most:,} can be held out, as one of "
            f"each of the {len(sizes)} classes must be left to train on"
        )


def shapes_generator(seed: int, split: int) -> np.random.Generator:
    """The numbers from which one split of ``Shapes`` is drawn."""
    return _generator(seed, _SHAPES, split)
