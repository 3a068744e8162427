"""Augmentation: each image its own draw, a function of seed, epoch and place."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from cifar_lightning import CIFAR10DataModule
from cifar_lightning.data import Shapes
from cifar_lightning.data.augmentation import Augmentation
from cifar_lightning.data.randomness import epoch_order

EVERYTHING = Augmentation(flip=True, translate=3, cutout=9, jitter=0.3)
IMAGES = torch.arange(1000)


def by_hand(image: np.ndarray, draw: list[int], translate: int) -> np.ndarray:
    """Flip, then the window of an image that goes on as its reflection."""
    flip, dy, dx = draw[:3]
    padded = np.pad(image, ((translate,) * 2, (translate,) * 2, (0, 0)), mode="reflect")
    side = image.shape[0]
    flipped = padded[:, ::-1] if flip else padded
    # moving is in the picture as it lies before the flip: the columns then run backwards
    left = translate + (-dx if flip else dx)
    return flipped[translate + dy : translate + dy + side, left : left + side]


def test_moves_against_windows_of_a_padded_image() -> None:
    images = torch.randint(0, 256, (200, 32, 32, 3), dtype=torch.uint8)
    draws = EVERYTHING.draws(torch.arange(200), 2, side=32, seed=1)
    moved = EVERYTHING.move(images, draws)
    for image, draw, result in zip(images.numpy(), draws.tolist(), moved.numpy(), strict=True):
        assert np.array_equal(result, by_hand(image, draw, 3))


def test_cutout_against_a_loop() -> None:
    images = torch.randn(100, 3, 32, 32)
    draws = EVERYTHING.draws(torch.arange(100), 2, side=32, seed=1)
    expected = images.clone()
    for i, (y, x) in enumerate(draws[:, 3:5].tolist()):
        top, left = max(0, y - 4), max(0, x - 4)
        expected[i, :, top : y + 5, left : x + 5] = 0
    assert torch.equal(EVERYTHING.blank(images, draws), expected)


def test_colours_against_torchvision() -> None:
    images = torch.randint(60, 140, (100, 32, 32, 3), dtype=torch.uint8)  # none is clipped there
    draws = EVERYTHING.draws(torch.arange(100), 2, side=32, seed=1)
    results = EVERYTHING.recolour(images, draws) / 255
    factors = (0.7 + 0.6 * draws[:, 5:8] / 65_535).tolist()
    for image, each, result in zip(images, factors, results, strict=True):
        expected = image.permute(2, 0, 1) / 255
        changes = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
        for change, factor in zip(changes, each, strict=True):
            expected = change(expected, factor)
        assert torch.allclose(result, expected.permute(1, 2, 0), atol=2e-4)
    assert np.ptp(factors, axis=0).min() > 0.5


def test_draws_are_uniform_over_their_range() -> None:
    n = 50_000
    draws = EVERYTHING.draws(torch.arange(n), 0, side=32, seed=42)
    for column, (lowest, count) in enumerate(
        [(0, 2), (-3, 7), (-3, 7), (0, 32), (0, 32), (0, 16), (0, 16), (0, 16)]
    ):
        drawn = draws[:, column] // (4096 if column >= 5 else 1)
        seen = torch.bincount(drawn - lowest, minlength=count)
        assert len(seen) == count
        chi_squared = ((seen - n / count) ** 2 / (n / count)).sum()
        assert chi_squared < count + 5 * (2 * count) ** 0.5
    correlations = np.corrcoef(draws.T.numpy())
    assert np.abs(correlations - np.eye(8)).max() < 0.02


def test_draws_are_a_function_of_seed_and_epoch() -> None:
    def draws(seed: int, epoch: int) -> Tensor:
        return EVERYTHING.draws(IMAGES, epoch, side=32, seed=seed)

    torch.manual_seed(0)
    first = draws(42, 3)
    torch.manual_seed(1)
    assert torch.equal(first, draws(42, 3))
    for other in (draws(42, 4), draws(43, 3)):
        assert (first == other).all(dim=1).float().mean() < 0.01


def test_what_one_leaves_out_does_not_move_the_rest() -> None:
    draws = EVERYTHING.draws(IMAGES, 0, side=32, seed=42)
    without_flip = Augmentation(translate=3, cutout=9, jitter=0.3).draws(
        IMAGES, 0, side=32, seed=42
    )
    assert not without_flip[:, 0].any()
    assert torch.equal(without_flip[:, 1:], draws[:, 1:])
    without_jitter = Augmentation(flip=True, translate=3, cutout=9).draws(
        IMAGES, 0, side=32, seed=42
    )
    assert torch.equal(without_jitter, draws[:, :5])
    alternating = Augmentation("alternating", translate=3, cutout=9, jitter=0.3)
    assert torch.equal(alternating.draws(IMAGES, 0, side=32, seed=42)[:, 1:], draws[:, 1:])


def test_an_image_is_mirrored_in_every_other_epoch_wherever_it_stands() -> None:
    def mirrored(epoch: int, order: Tensor, seed: int = 42) -> Tensor:
        draws = Augmentation("alternating").draws(order, epoch, side=32, seed=seed)
        assert not draws[:, 1:3].any()
        return torch.zeros(1000, dtype=torch.bool).index_put((order,), draws[:, 0] == 1)

    epochs = [mirrored(n, epoch_order(1000, seed=42, epoch=n)) for n in range(5)]
    for n, seen in enumerate(epochs):
        assert torch.equal(seen, epochs[0].logical_xor(torch.tensor(n % 2 == 1)))
        assert 420 < seen.sum() < 580
    assert torch.equal(mirrored(0, IMAGES[:300])[:300], epochs[0][:300])  # of fewer images, too
    assert 420 < (mirrored(0, IMAGES, seed=43) != epochs[0]).sum() < 580


@pytest.mark.parametrize("batch_size", [64, 10])
def test_training_images_alone_and_the_same_in_batches_of_any_size(batch_size: int) -> None:
    def module(**augmentation: float) -> CIFAR10DataModule:
        data = CIFAR10DataModule(
            Shapes(300),
            batch_size=batch_size,
            val_size=50,
            **augmentation,  # type: ignore[arg-type]
        )
        data.setup("fit")
        return data

    everything = {"flip": True, "translate": 3, "cutout": 9, "jitter": 0.3}
    data, plain = module(**everything), module()
    batches = [data.prepare_batch(*batch) for batch in data.train_dataloader().pixels(1)]
    images = torch.cat([images for images, _ in batches])
    whole = CIFAR10DataModule(
        Shapes(300),
        batch_size=250,
        val_size=50,
        **everything,  # type: ignore[arg-type]
    )
    whole.setup("fit")
    (batch,) = whole.train_dataloader().pixels(1)
    assert torch.equal(images, whole.prepare_batch(*batch)[0])
    same_places = list(plain.train_dataloader().pixels(1))
    untouched = torch.cat([plain.prepare_batch(*batch)[0] for batch in same_places])
    changed = (images != untouched).flatten(1).any(dim=1)
    assert changed.float().mean() > 0.95
    for ours, theirs in zip(data.val_dataloader(), plain.val_dataloader(), strict=True):
        assert len(ours) == 2
        assert torch.equal(ours[0], theirs[0])
    assert torch.equal(batches[0][1], same_places[0][1])


def test_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"data.translate -1 must be"):
        CIFAR10DataModule(translate=-1)
    with pytest.raises(ValueError, match=r"data.jitter 2 must be from 0"):
        CIFAR10DataModule(jitter=2)
    with pytest.raises(ValueError, match=r"data.flip 'both' must be true, false or alternating"):
        CIFAR10DataModule(flip="both")  # type: ignore[arg-type]
