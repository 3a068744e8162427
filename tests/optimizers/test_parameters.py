"""What an optimizer is told beside its parameters."""

from typing import Any

import pytest
import torch
from stand_ins import Tiny
from torch.optim import SGD, Adam, AdamW, Muon, Optimizer, RMSprop

from cifar_lightning import ImageClassifier
from cifar_lightning.optimizers.parameters import fuse


class OwnSGD(SGD):
    """Somebody's own."""


def made(kind: Any, **arguments: Any) -> Optimizer:
    optimizer: Optimizer = kind([torch.nn.Parameter(torch.ones(2, 2))], lr=0.1, **arguments)
    return fuse(optimizer)


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_one_pass_on_a_cpu_by_the_same_mathematics(kind: type[Optimizer]) -> None:
    ends = []
    for change in (lambda optimizer: optimizer, fuse):
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))
        optimizer = change(kind([weight], lr=0.1, weight_decay=0.01))  # type: ignore[call-arg]
        for step in range(5):
            weight.grad = torch.cos(weight.detach() * step)
            optimizer.step()
        ends.append(weight.detach())
    assert optimizer.param_groups[0]["fused"] is True
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize("kind", [SGD, AdamW])
@pytest.mark.parametrize("of", ["gradients", "states"])
def test_whatever_the_order_in_memory(kind: Any, of: str) -> None:
    ends = []
    for change in (lambda optimizer: optimizer, fuse):
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 120).view(5, 6, 2, 2))
        weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        how = {"momentum": 0.9} if kind is SGD else {}
        optimizer = change(kind([weight], lr=0.1, **how))
        for step in range(4):
            generator = torch.Generator().manual_seed(step)
            gradient = torch.randn(weight.shape, generator=generator)
            weight.grad = (
                gradient if of == "gradients" else torch.empty_like(weight).copy_(gradient)
            )
            optimizer.step()
            if of == "states":  # as a checkpoint in another order has them
                for state in optimizer.state.values():
                    state.update({n: v.contiguous() for n, v in state.items()})
        ends.append(weight.detach())
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_a_weight_that_is_trained_later_than_others(kind: Any) -> None:
    ends = []
    for change in (lambda optimizer: optimizer, fuse):
        weights: Any = [torch.nn.Parameter(torch.ones(2, 3)) for _ in range(2)]
        optimizer = change(kind(weights, lr=0.1, **({"momentum": 0.9} if kind is SGD else {})))
        for step in range(4):
            weights[0].grad = torch.full((2, 3), 0.5 + step)
            weights[1].grad = None if step < 2 else torch.full((2, 3), 0.5 - step)
            optimizer.step()
        ends.append(torch.stack(weights).detach())
    torch.testing.assert_close(*ends)


def test_who_has_been_told_or_cannot_is_left_alone() -> None:
    for optimizer in (made(SGD, foreach=False), made(SGD, fused=False), made(RMSprop), made(Muon)):
        assert not optimizer.param_groups[0].get("fused")
    assert made(OwnSGD).param_groups[0]["fused"] is None


def test_a_classifier_s_is_fused() -> None:
    optimizer = ImageClassifier(Tiny()).configure_optimizers()
    assert [group["fused"] for group in optimizer.param_groups] == [True, True]
