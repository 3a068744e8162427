"""Convolutions on small maps as products: the same numbers as torch's, and no others touched."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_lightning.models import AlexNet, small_maps
from cifar_lightning.models.small_maps import SmallMaps


def gradients(layer: nn.Conv2d, images: Tensor, upstream: Tensor) -> list[Tensor]:
    images = images.clone().requires_grad_()
    out = layer(images)
    return [out, *torch.autograd.grad(out, [images, *layer.parameters()], upstream)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("height", "width", "side"), [(3, 3, 3), (3, 3, 5), (2, 3, 3), (1, 1, 3), (2, 2, 7)]
)
def test_the_same_as_torch_s(
    height: int, width: int, side: int, order: torch.memory_format, bias: bool
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 6, side, padding=side // 2, bias=bias).to(memory_format=order)
    images, upstream = torch.randn(4, 5, height, width), torch.randn(4, 6, height, width)
    expected = gradients(layer, images.contiguous(memory_format=order), upstream)
    with SmallMaps():
        ours = gradients(layer, images.contiguous(memory_format=order), upstream)
    for theirs, mine in zip(expected, ours, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_numbers_of_bf16_are_summed_in_float32() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 64, 3, padding=1)
    images, upstream = torch.randn(8, 64, 3, 3), torch.randn(8, 64, 3, 3)
    exact = gradients(layer, images, upstream)
    with torch.autocast("cpu", torch.bfloat16):
        torchs = gradients(layer, images, upstream.bfloat16())
        with SmallMaps():
            ours = gradients(layer, images, upstream.bfloat16())
    for truth, theirs, mine in zip(exact, torchs, ours, strict=True):
        assert mine.dtype == theirs.dtype
        assert error(mine, truth) < max(1.3 * error(theirs, truth), 1e-5)


def error(of: Tensor, truth: Tensor) -> float:
    with torch.no_grad():
        return float((of.float() - truth).norm() / truth.norm())


def test_a_network_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net, images = AlexNet(), torch.randn(4, 3, 32, 32)
    same = copy.deepcopy(net)
    seen, apply = [], small_maps._ByTaps.apply

    def spy(*arguments: Any) -> Any:
        seen.append(tuple(arguments[0].shape[1:]))
        return apply(*arguments)

    monkeypatch.setattr(small_maps._ByTaps, "apply", spy)
    net(images).square().sum().backward()
    assert seen == []
    with SmallMaps():
        same(images).square().sum().backward()
    assert seen == [(256, 3, 3), (384, 3, 3), (384, 3, 3)]
    for (name, theirs), (_, mine) in zip(
        net.named_parameters(), same.named_parameters(), strict=True
    ):
        torch.testing.assert_close(mine.grad, theirs.grad, msg=name, rtol=1e-3, atol=1e-6)
    assert net.state_dict().keys() == same.state_dict().keys()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3, stride=2, padding=1),
        nn.Conv2d(4, 4, 3, padding=1, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding=2),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, (3, 1), padding=(1, 0)),
        nn.Conv2d(4, 4, 2, padding=1),
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3, padding=1).double(),
    ],
    ids=str,
)
def test_others_are_torch_s(layer: nn.Conv2d, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_maps._ByTaps, "apply", None)
    images = torch.randn(2, 4, 3, 3, dtype=layer.weight.dtype)
    with SmallMaps():
        assert torch.equal(layer(images), layer(images))
        F.conv2d(images, layer.weight.data[:, : 4 // layer.groups], groups=layer.groups)
