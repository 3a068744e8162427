"""Initial weights."""

from torch import nn


def kaiming_(net: nn.Module) -> None:
    """Draw the weights of convolutions and linear layers anew, from a normal distribution that
    keeps the size of activations through ReLUs, fan in; biases become 0.

    He et al. 2015, https://arxiv.org/abs/1502.01852. PyTorch's own initialisation has a sixth of
    this variance.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
