"""What a classifier is made of, looked at when it is made: what Python users mix up."""

import inspect
from typing import Any, get_args

from torch import nn

from cifar_lightning.models.hardware import MemoryFormat


def check_parts(
    net: Any, loss: Any, optimizer: Any, num_classes: Any, label_smoothing: float
) -> None:
    """Whether a classifier can be made of these.

    Args:
        net: the network.
        loss: the loss, or None for the default.
        optimizer: makes the optimizer.
        num_classes: a number, or None.
        label_smoothing: a share; for the default loss.

    Raises:
        TypeError: one of them is of the wrong kind; says which, and what to give.
        ValueError: a number is out of its range, or does not go with the loss.
    """
    for name, part in (("net", net), ("loss", loss)):
        if isinstance(part, nn.Module) or (part is None and name == "loss"):
            continue
        if inspect.isclass(part) and issubclass(part, nn.Module):
            raise TypeError(f"{name} is the class {part.__name__}: give one, {part.__name__}()")
        what = getattr(part, "__name__", type(part).__name__)
        raise TypeError(f"{name} is {what}, but must be an nn.Module")
    if not callable(optimizer):
        kind = type(optimizer).__name__
        raise TypeError(
            f"optimizer is of type {kind}, but must make one from the parameters of the network: "
            f"lambda parameters: {kind}(parameters, lr=0.01)"
        )
    if num_classes is not None and not (isinstance(num_classes, int) and num_classes > 0):
        raise ValueError(f"num_classes {num_classes} must be a number of classes, at least 1")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"model.label_smoothing {label_smoothing} must be at least 0, below 1")
    if loss is not None and label_smoothing:
        raise ValueError(
            "model.label_smoothing belongs to the default loss: leave one of them out."
        )


def check_choices(**choices: str) -> None:
    """Whether each argument is one of those that there are. Raises ValueError."""
    there = {
        "initialisation": ("default", "kaiming"),
        "memory_format": ("auto", *get_args(MemoryFormat)),
    }
    for name, value in choices.items():
        if value not in there[name]:
            raise ValueError(f"{name} {value!r} must be one of {', '.join(there[name])}")
