"""The order of an epoch and the held-out images: functions of seed and epoch."""

from collections import Counter

import pytest
import torch

from cifar_lightning.data.randomness import epoch_order, stratified_split


def test_order_is_a_function_of_seed_and_epoch() -> None:
    orders = {
        (seed, epoch): epoch_order(1000, seed, epoch) for seed in range(3) for epoch in range(3)
    }
    for (seed, epoch), order in orders.items():
        assert sorted(order.tolist()) == list(range(1000))
        assert torch.equal(order, epoch_order(1000, seed, epoch))
    assert len({tuple(order.tolist()) for order in orders.values()}) == len(orders)


def test_drawing_numbers_elsewhere_changes_nothing() -> None:
    before = epoch_order(100, 1, 2)
    torch.rand(5)
    torch.manual_seed(9)
    state = torch.get_rng_state()
    assert torch.equal(before, epoch_order(100, 1, 2))
    assert torch.equal(state, torch.get_rng_state())


def test_split_is_stratified_and_from_the_seed_alone() -> None:
    labels = torch.arange(1000) % 10
    train, held_out = stratified_split(labels, 200, seed=1)
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(1000))
    assert Counter(labels[held_out].tolist()) == dict.fromkeys(range(10), 20)
    assert torch.equal(held_out, stratified_split(labels, 200, seed=1)[1])
    assert not torch.equal(held_out, stratified_split(labels, 200, seed=2)[1])


def labelled(sizes: tuple[int, ...]) -> torch.Tensor:
    """Labels of classes of these sizes, each class in one piece."""
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


@pytest.mark.parametrize(
    ("sizes", "val_size", "of_each"),
    [
        ((10, 10), 4, (2, 2)),
        ((10, 12, 11), 4, (1, 2, 1)),
        ((10, 12, 11), 5, (1, 2, 2)),
        ((10, 2, 10), 9, (4, 1, 4)),
        ((10, 2, 1), 8, (7, 1, 0)),
        ((10, 2, 1), 10, (9, 1, 0)),
        ((7,), 3, (3,)),
        ((1, 1), 0, (0, 0)),
        ((100, 100), 0.1, (10, 10)),
        ((60, 40), 0.1, (6, 4)),
        ((1000, 12), 0.1, (100, 1)),
        ((5, 5, 5), 0.1, (1, 1, 0)),
        ((1, 4), 0.1, (0, 1)),
        ((1, 1, 5), 0.1, (0, 0, 1)),
        ((100,), 0.29, (29,)),
        ((4, 2), 0.6, (3, 1)),
    ],
)
def test_split_as_even_as_it_goes(
    sizes: tuple[int, ...], val_size: float, of_each: tuple[int, ...]
) -> None:
    labels = labelled(sizes)
    train, held_out = stratified_split(labels, val_size, seed=1)
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(len(labels)))
    assert torch.bincount(labels[held_out], minlength=len(sizes)).tolist() == list(of_each)


def test_split_holds_out_the_images_that_it_always_has() -> None:
    labels = torch.arange(60) % 3
    held_out = stratified_split(labels, 6, seed=42)[1]
    assert held_out.tolist() == [
        6,
        7,
        9,
        22,
        29,
        53,
    ]  # chosen by earlier versions, whose runs go on
    assert torch.equal(held_out, stratified_split(labels, 0.1, seed=42)[1])


@pytest.mark.parametrize(
    ("sizes", "val_size"), [((10, 10), 19), ((10, 10), 2000), ((1, 1), 0.1), ((2, 2), 0.9)]
)
def test_split_that_cannot_be(sizes: tuple[int, ...], val_size: float) -> None:
    with pytest.raises(ValueError, match=f"at most {sum(sizes) - len(sizes)} can be held out"):
        stratified_split(labelled(sizes), val_size, seed=1)
