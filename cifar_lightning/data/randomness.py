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
_ORDER, _SPLIT, _SHAPES, _AUGMENTATION = range(4)


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


def stratified_split(labels: Tensor, val_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Hold out ``val_size`` images, the same number of each class.

    Args:
        labels: int64, N.
        val_size: how many to hold out; a multiple of the number of classes present.

    Returns:
        The indices of the images to train on and of those held out, int64, each in rising order.

    Raises:
        ValueError: ``val_size`` cannot be shared out evenly, or would leave a class empty.
    """
    classes = torch.unique(labels)
    each, remainder = divmod(val_size, len(classes))
    smallest = int(torch.bincount(labels)[classes].min())
    if val_size < 0 or remainder or each >= smallest:
        raise ValueError(
            f"val_size {val_size} must be a multiple of the {len(classes)} classes and leave "
            f"images of each to train on (the smallest class has {smallest})"
        )
    generator = _generator(seed, _SPLIT)
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for label in classes:
        members = torch.nonzero(labels == label).flatten()
        chosen = torch.from_numpy(generator.permutation(len(members))[:each])
        held_out[members[chosen]] = True
    return torch.nonzero(~held_out).flatten(), torch.nonzero(held_out).flatten()


def shapes_generator(seed: int, split: int) -> np.random.Generator:
    """The numbers from which one split of ``Shapes`` is drawn."""
    return _generator(seed, _SHAPES, split)
