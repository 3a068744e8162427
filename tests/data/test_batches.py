"""Batches: which images, in which order, with which values, in one process and in several."""

import pytest
import torch

from cifar_lightning import CIFAR10DataModule
from cifar_lightning.data import Shapes
from cifar_lightning.data.batches import Batches
from cifar_lightning.data.randomness import epoch_order
from cifar_lightning.data.source import LabelledImages


def test_batches_go_through_the_epoch_once_and_from_any_position() -> None:
    images = torch.arange(103, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 2, 2, 3)
    data = LabelledImages(images, torch.arange(103))
    module = CIFAR10DataModule(Shapes(100), batch_size=10)
    batches = Batches(module, data, lambda e: epoch_order(103, 5, e))
    assert len(batches) == 11
    for first in range(11):
        given = list(batches.pixels(3, first))
        labels = [label for _, batch in given for label in batch.tolist()]
        assert labels == epoch_order(103, 5, 3)[first * 10 :].tolist()
    for pixels, label in given:
        assert torch.equal(pixels[:, 0, 0, 0].long(), label)


def test_normalised_values() -> None:
    data = CIFAR10DataModule(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    images = torch.randint(0, 256, (4, 5, 6, 3), dtype=torch.uint8)
    expected = (images.permute(0, 3, 1, 2) / 255 - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / (
        torch.tensor([0.5, 0.6, 0.7]).view(3, 1, 1)
    )
    normalised = data.normalise(images)
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised, expected)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_batches_are_those_of_one_process(count: int) -> None:
    data = CIFAR10DataModule(Shapes(300), 83, val_size=50, flip=True, translate=3, cutout=8)
    batches = data.train_dataloader()
    alone = list(batches.pixels(2, 1))
    everyone = [list(batches.pixels(2, 1, (rank, count))) for rank in range(count)]
    for whole, parts in zip(alone, zip(*everyone, strict=True), strict=True):
        assert {part[3] for part in parts} == {len(whole[0])}
        for i in range(3):  # images, labels, draws
            assert torch.equal(torch.cat([part[i] for part in parts]), whole[i])
    assert {len(part[0]) for part in [b[-1] for b in everyone]} == {0, 1}  # the last batch has one
