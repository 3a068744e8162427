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


@pytest.mark.parametrize("val_size", [-10, 15, 1000, 2000])
def test_split_that_cannot_be(val_size: int) -> None:
    with pytest.raises(ValueError, match=f"val_size {val_size}"):
        stratified_split(torch.arange(1000) % 10, val_size, seed=1)
