"""Which parameters an optimizer is given, and in which form."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Optimizer


def make_optimizer(make: Callable[[Any], Optimizer], net: nn.Module, loss: nn.Module) -> Optimizer:
    """An optimizer of a network's parameters and those of the loss.

    Args:
        make: makes it from parameters. If it knows weight decay it gets two groups, weights, and
            biases and scales, which do not decay. If its first argument is named ``named_…`` it
            gets pairs of name and parameter, and decides for itself what decays.
        net: the network.
        loss: the loss; its parameters are named ``loss.…``.
    """
    named = [*net.named_parameters()]
    named += [(f"loss.{name}", parameter) for name, parameter in loss.named_parameters()]
    if _wants_names(make):
        return make(named)
    return _in_groups(make, [parameter for _, parameter in named])


def _wants_names(make: Callable[..., Any]) -> bool:
    while isinstance(make, partial):  # of the command line: what makes it is the last argument
        make = make.args[-1] if make.args else make.func
    try:
        arguments = list(inspect.signature(make).parameters)
    except (TypeError, ValueError):  # it is not written in Python
        return False
    return bool(arguments) and arguments[0].startswith("named_")


def _in_groups(make: Callable[[Any], Optimizer], parameters: list[nn.Parameter]) -> Optimizer:
    """Whether there is any decay now is no matter of the number of groups."""
    optimizer = make(parameters)
    if "weight_decay" not in optimizer.defaults:
        return optimizer
    weights = [p for p in parameters if p.ndim > 1]
    vectors = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
    return make([{"params": weights}, vectors])
