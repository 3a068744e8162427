"""The networks of the series: shapes, parameters and FLOPs of each."""

import pytest
import torch
from torch import nn

from cifar_lightning.models import VGG19, AlexNet, LeNet5, Network, ResNet18
from cifar_lightning.models.cost import count_parameters, flops_per_image
from cifar_lightning.models.initialisation import kaiming_

# Layers with parameters, the shapes of their outputs in order. LeNet-5: LeCun et al. 1998, figure
# 2; VGG19: Simonyan and Zisserman 2014, table 1 E, on 32 pixels; ResNet-18: He et al. 2015, table
# 1, from conv2 on, with 32 pixels there.
SHAPES = {
    LeNet5: [(6, 28, 28), (16, 10, 10), (120,), (84,), (10,)],
    VGG19: [*[(64, 32, 32)] * 2, *[(128, 16, 16)] * 2, *[(256, 8, 8)] * 4, *[(512, 4, 4)] * 4,
            *[(512, 2, 2)] * 4, (10,)],
    ResNet18: [*[(64, 32, 32)] * 5,
               *[(128, 16, 16)] * 5, *[(256, 8, 8)] * 5, *[(512, 4, 4)] * 5, (10,)],
}  # fmt: skip


@pytest.mark.parametrize("net_class", SHAPES)
def test_every_shape(net_class: type[Network]) -> None:
    net = net_class()
    seen: list[tuple[int, ...]] = []
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape[1:])))
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert seen == SHAPES[net_class]


@pytest.mark.parametrize("net", [VGG19(), ResNet18()])
def test_larger_images(net: Network) -> None:
    with torch.no_grad():
        assert net.eval()(torch.zeros(2, 3, 64, 64)).shape == (2, 10)


def test_vgg19_averages_nothing_of_small_images() -> None:
    net, images = VGG19().eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(net(images), net.classifier(net.features(images)))


# VGG19 and ResNet-18: torchvision's vgg19().features, vgg19_bn().features and resnet18 less what is
# built differently here: a linear layer of 5,130; a first convolution of 3×3 instead of 7×7.
@pytest.mark.parametrize(
    ("net", "parameters", "flops"),
    [
        (LeNet5(), 62_006, 1_303_440),
        (AlexNet(), 6_616_714, 128_077_376),
        (VGG19(), 20_024_384 + 5_130, 796_272_640),
        (VGG19(batch_norm=True), 20_035_392 + 5_130, 796_272_640),
        (ResNet18(), 11_181_642 - (7 * 7 - 3 * 3) * 3 * 64, 1_110_845_440),
    ],
    ids=["LeNet5", "AlexNet", "VGG19", "VGG19-bn", "ResNet18"],
)
def test_parameters_and_flops(net: nn.Module, parameters: int, flops: int) -> None:
    assert count_parameters(net) == parameters
    assert flops_per_image(net) == flops


def test_kaiming_keeps_the_size_of_activations() -> None:
    torch.manual_seed(0)
    net = VGG19()
    features = net.features
    assert isinstance(features, nn.Sequential)
    images = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        default = features(images).std()
        kaiming_(net)
        kaiming = features(images).std()
    assert default < 0.01 < 0.1 < kaiming < 10
    convolution = features[-3]
    assert isinstance(convolution, nn.Conv2d)
    weight = convolution.weight
    assert weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    assert convolution.bias is not None
    assert not convolution.bias.any()
