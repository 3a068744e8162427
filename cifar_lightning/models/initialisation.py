"""Initial weights."""

from torch import nn


def kaiming_(net: nn.Module) -> None:
    """Draw the weights of convolutions and linear layers anew, from a normal distribution that
    keeps the size of activations through ReLUs, fan in; biases become 0.

    He et al. 2015, https://arxiv.org/abs/1502.01852. PyTorch's own initialisation has a sixth of
    this variance.

    Raises:
        ValueError: a layer does not know its size yet.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if nn.parameter.is_lazy(layer.weight):
                raise ValueError(
                    f"model.initialisation kaiming needs layers of a known size, which "
                    f"{type(layer).__name__} has not: leave one of them out"
                )
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
