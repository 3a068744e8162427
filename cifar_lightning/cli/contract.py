"""What a network and a loss must give, whoever has written them."""

import logging
import math
from typing import Any

import torch
from torch import Tensor, nn

from cifar_lightning.data import CIFAR10DataModule
from cifar_lightning.errors import UsageError, counted

log = logging.getLogger(__name__)


class Contract:
    """Checks what the parts of a module give; each check raises UsageError.

    Args:
        net: the network.
        loss: the loss.
        classes: the number of classes.
    """

    def __init__(self, net: nn.Module, loss: nn.Module, classes: int) -> None:
        self._net, self._classes = net, classes
        self.net = f"--model.net {type(net).__name__}"
        """The option of the network, with its class; ``loss`` likewise."""
        self.loss = f"--model.loss {type(loss).__name__}"

    def check_weights(self) -> None:
        """Whether the network has any."""
        if not [*self._net.parameters()]:
            raise UsageError(
                f"{self.net} has no weights: a network finds those of its layers that are "
                "attributes, or in nn.Sequential or nn.ModuleList; in a plain list it does not."
            )

    def check_logits(self, logits: Any, images: int) -> None:
        """Whether these are logits of so many images."""
        classes = self._classes
        if not isinstance(logits, Tensor):
            when = "training" if self._net.training else "evaluation"
            raise UsageError(
                f"{self.net} returns {described(logits)} in {when}: it must return one tensor, "
                f"logits N×{classes}."
            )
        if logits.shape != (images, classes):
            raise UsageError(
                f"{self.net} gives {shape(logits)} for {counted(images, 'image')}: it must give "
                f"{images}×{classes}, as the data have {counted(classes, 'class')}."
            )
        if not logits.is_floating_point():
            raise UsageError(
                f"{self.net} gives {_kind(logits)}: it must give logits, floating-point numbers."
            )

    def check_loss(self, loss: Any) -> None:
        """Whether this is one number."""
        if not isinstance(loss, Tensor):
            raise UsageError(
                f"{self.loss} returns {described(loss)}: it must return a tensor, the mean over "
                "the images."
            )
        if not loss.is_floating_point():
            raise UsageError(
                f"{self.loss} returns {_kind(loss)}: it must return a floating-point number, the "
                "mean over the images."
            )
        if loss.numel() != 1:
            raise UsageError(
                f"{self.loss} returns {shape(loss)} numbers: it must return one, the mean over "
                "the images."
            )

    def check_unchanged(self, before: tuple[Tensor, ...], now: tuple[Tensor, ...]) -> None:
        """Whether the loss has left logits and labels as they were."""
        if not all(map(_equal, before, now)):
            raise UsageError(
                f"{self.loss} changes logits or labels in place, by which accuracy is counted: "
                "have it work on a copy (clone)."
            )

    def check_finite(self, logits: Tensor, loss: Tensor) -> None:
        """Whether the loss is a number before the first step."""
        if not loss.isfinite():
            raise UsageError(
                f"{self.loss if bool(logits.isfinite().all()) else self.net} gives numbers that "
                "are not finite, before the first step: something in it divides by 0, overflows "
                "or takes the logarithm of 0."
            )

    def check_mean(self, loss: Tensor, of_twice: Tensor) -> None:
        """Whether the loss is a mean: a sum is twice as large where every image is there twice."""
        if loss and math.isclose(float(of_twice), 2 * float(loss), rel_tol=1e-3):
            raise UsageError(
                f"{self.loss} returns a sum over the images: it must return their mean, which "
                "does not depend on how many there are in a batch."
            )

    def check_gradient(self, loss: Tensor) -> None:
        """Whether the loss has a gradient."""
        if loss.requires_grad:
            return
        if not any(p.requires_grad for p in self._net.parameters()):
            raise UsageError(f"{self.net} has no weights that can be trained.")
        raise UsageError(
            f"{self.loss} returns a number without a gradient: something in it, or in the network,"
            " detaches it (detach, item, no_grad, argmax)."
        )

    def check_reached(self) -> None:
        """Whether the gradient has reached the network."""
        trained = [p for p in self._net.parameters() if p.requires_grad]
        if trained and all(p.grad is None for p in trained):
            raise UsageError(
                f"{self.loss} does not depend on the network: no weight of {self.net} gets a "
                "gradient."
            )

    def say_hints(self, logits: Tensor, data: CIFAR10DataModule) -> None:
        """Say what looks like a mistake, but may be meant."""
        if self._classes == 1:
            log.warning(
                "The data have one class alone (%s): whatever the network says is right.",
                data.source.class_names[0],
            )
        elif _are_probabilities(logits):
            log.warning(
                "%s gives what looks like probabilities (none below 0, 1 in sum): leave out its "
                "softmax, as loss, metrics and predictions are made from logits.",
                self.net,
            )
        for name, values in (("mean", data.mean), ("std", data.std)):
            if max(values) > 1:
                log.warning(
                    "--data.%s %s: pixels go from 0 to 1 here; divide numbers on the scale from 0 "
                    "to 255 by 255.",
                    name,
                    [*values],
                )


def described(value: Any) -> str:
    """What kind of thing a value is."""
    return "nothing (None)" if value is None else f"a {type(value).__name__}"


def shape(tensor: Tensor) -> str:
    """The shape of a tensor, as one writes it."""
    return "×".join(map(str, tensor.shape)) or "one number"


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _equal(before: Tensor, after: Tensor) -> bool:
    return torch.equal(before.nan_to_num(), after.nan_to_num())


def _are_probabilities(logits: Tensor) -> bool:
    sums = logits.float().sum(dim=1)
    return bool((logits >= 0).all()) and bool((sums - 1).abs().max() < 0.01)
