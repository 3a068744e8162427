"""The article's table of AlexNet, held."""

import torch
from torch import nn

from cifar_lightning import AlexNet

TABLE = [
    ("Conv2d", (96, 15, 15)),
    ("ReLU", (96, 15, 15)),
    ("MaxPool2d", (96, 7, 7)),
    ("Conv2d", (256, 7, 7)),
    ("ReLU", (256, 7, 7)),
    ("MaxPool2d", (256, 3, 3)),
    ("Conv2d", (384, 3, 3)),
    ("ReLU", (384, 3, 3)),
    ("Conv2d", (384, 3, 3)),
    ("ReLU", (384, 3, 3)),
    ("Conv2d", (256, 3, 3)),
    ("ReLU", (256, 3, 3)),
    ("Flatten", (2304,)),
    ("Linear", (1024,)),
    ("ReLU", (1024,)),
    ("Linear", (512,)),
    ("ReLU", (512,)),
    ("Linear", (10,)),
]


def test_every_layer_and_shape() -> None:
    net = AlexNet()
    seen = []
    for layer in (*net.features, *net.classifier):
        layer.register_forward_hook(
            lambda layer, _, output: seen.append((type(layer).__name__, tuple(output.shape[1:])))
        )
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert seen == TABLE


def test_parameters() -> None:
    assert sum(p.numel() for p in AlexNet().parameters()) == 6_616_714
    assert AlexNet(num_classes=7)(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def test_initialisation_is_pytorchs() -> None:
    torch.manual_seed(0)
    net = AlexNet()
    torch.manual_seed(0)
    first = nn.Conv2d(3, 96, kernel_size=7, stride=2, padding=2)
    assert torch.equal(next(net.parameters()), first.weight)
