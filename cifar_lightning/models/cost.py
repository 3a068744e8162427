"""What a network costs."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(net: nn.Module) -> int:
    """The number of trainable values."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def flops_per_image(net: nn.Module, side: int = 32) -> int:
    """Floating-point operations of one forward pass, by torch's own counter: convolutions and
    matrix products, a multiplication and an addition being two.

    Args:
        net: takes float N×3×side×side; its mode and statistics are left as they are.
        side: height and width of an image.
    """
    parameter = next(net.parameters())
    image = torch.zeros(1, 3, side, side).to(parameter)
    training = net.training
    net.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net(image)
    finally:
        net.train(training)
    return int(counter.get_total_flops())
