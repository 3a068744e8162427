"""Which parameters an optimizer is given, and in which form."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer


def make_optimizer(
    make: Callable[[Any], Optimizer], net: nn.Module, loss: nn.Module, lr: float | None = None
) -> Optimizer:
    """An optimizer of a network's parameters and those of the loss.

    Args:
        make: makes it from parameters. If it knows weight decay it gets two groups, weights, and
            biases and scales, which do not decay. If its first argument is named ``named_…`` it
            gets pairs of name and parameter, and decides for itself what decays.
        net: the network.
        loss: the loss; its parameters are named ``loss.…``.
        lr: a learning rate in the place of the optimizer's.
    """
    named = [*net.named_parameters()]
    named += [(f"loss.{name}", parameter) for name, parameter in loss.named_parameters()]
    parameters = [parameter for _, parameter in named]
    optimizer = make(named) if _wants_names(make) else _in_groups(make, parameters)
    if lr is not None:
        change_lr(optimizer, optimizer.param_groups[0]["lr"], lr)
    return optimizer


def change_lr(optimizer: Optimizer, old: float, new: float) -> None:
    """Change the learning rate of an optimizer. Where a group has another, by a schedule or of its
    own, it changes in proportion."""
    for group in optimizer.param_groups:
        group["lr"] = new if group["lr"] == old else group["lr"] * new / old


def fuse(optimizer: Optimizer) -> Optimizer:
    """Have an optimizer of torch's update weights on a CPU in one pass over them, unless it was
    told how to. On GPUs torch itself updates them together."""
    groups = optimizer.param_groups
    weights = [p for group in groups for p in group["params"]]
    if type(optimizer).__module__.startswith("torch.optim.") and all(
        p.device.type == "cpu" and p.dtype in (torch.float32, torch.float64) for p in weights
    ):
        for group in groups:
            chosen = group.get("foreach") is not None or group.get("differentiable")
            if group.get("fused", False) is None and not chosen and not group.get("dampening"):
                group["fused"] = True
        optimizer.register_step_pre_hook(_make_ready)
    return optimizer


def _make_ready(optimizer: Optimizer, *_: Any) -> None:
    """Give torch's kernels for CPUs what they take for granted: without a word they give wrong
    weights where a gradient or a state has other strides than its weight (one that somebody has
    set, or of a checkpoint in another memory order), and fail where a weight of several is
    trained for the first time, having no momentum yet."""
    for group in optimizer.param_groups:
        trained = [p for p in group["params"] if p.grad is not None] if group.get("fused") else []
        for weight in trained:
            if weight.grad.stride() != weight.stride():
                weight.grad = torch.empty_like(weight).copy_(weight.grad)
            state = optimizer.state[weight]
            if isinstance(optimizer, SGD) and group["momentum"] and not state:
                state["momentum_buffer"] = torch.zeros_like(weight)
            for name, value in state.items():
                of_weight = isinstance(value, Tensor) and value.shape == weight.shape
                if of_weight and value.stride() != weight.stride():
                    state[name] = torch.empty_like(weight).copy_(value)


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


class Factory(partial[Any]):
    """A function that copies of a module share. The command line's refer to all of it, down to
    locks: they cannot be copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Factory":
        return self
