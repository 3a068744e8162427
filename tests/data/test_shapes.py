"""The built-in pictures."""

from collections import Counter

import torch

from cifar_lightning.data import Shapes


def test_shapes_are_balanced_and_from_the_seed() -> None:
    one, same, other = (Shapes(200, seed=seed).load("train") for seed in (1, 1, 2))
    assert one.images.shape == (200, 32, 32, 3)
    assert one.images.dtype == torch.uint8
    assert one.labels.dtype == torch.int64
    assert Counter(one.labels.tolist()) == dict.fromkeys(range(10), 20)
    assert torch.equal(one.images, same.images)
    assert not torch.equal(one.images, other.images)
    assert not torch.equal(Shapes(200).load("test").images, Shapes(200).load("train").images[:40])
