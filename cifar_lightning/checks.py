"""What can be known to fail is said before a run is begun."""

import inspect

import torch

from cifar_lightning.callbacks.checkpoints import KEY
from cifar_lightning.classifier import ImageClassifier
from cifar_lightning.data import CIFAR10DataModule
from cifar_lightning.errors import UsageError, UserError
from cifar_lightning.runs import Found


def check_num_classes(model: ImageClassifier, data: CIFAR10DataModule, asked: int | None) -> None:
    """Whether a number of classes asked for by hand is that of the data. Raises UsageError."""
    name = type(model.net).__name__
    parameter = inspect.signature(type(model.net)).parameters.get("num_classes")
    if parameter is None:
        raise UsageError(
            f"--model.net {name}: a network must take the number of classes as its argument "
            "num_classes."
        )
    if asked not in (None, data.num_classes, parameter.default):
        raise UsageError(
            f"--model.net.num_classes {asked}: the data have {data.num_classes} classes, and the "
            "network takes their number from them; leave it out."
        )


def check_images(fingerprint: str | None, found: Found) -> None:
    """Whether a run goes on with the images that it was trained on. Raises UserError."""
    before = found.content[KEY]["data"]
    if before not in (None, fingerprint):
        raise UserError(
            f"The training images are not those that {found.path} was trained on "
            f"({fingerprint}; then {before}): bring them back, or start a new run."
        )


def check_weights(model: ImageClassifier, found: Found) -> None:
    """Whether the checkpoint's weights are those of this network. Raises UserError."""
    own, theirs = (
        {name: tuple(weights.shape) for name, weights in state.items()}
        for state in (model.state_dict(), found.content["state_dict"])
    )
    for name in sorted(own.keys() | theirs.keys()):
        if own.get(name) != theirs.get(name):
            raise UserError(
                f"{found.path} holds another network than {type(model.net).__name__} for "
                f"{getattr(model.net, 'num_classes', 'these')} classes: {name} is "
                f"{theirs.get(name, 'not there')} instead of {own.get(name, 'not there')}."
            )


def check_network(model: ImageClassifier, data: CIFAR10DataModule) -> None:
    """Whether network, images, optimizer and schedule fit together. Raises UsageError."""
    name = type(model.net).__name__
    images, _ = next(iter(data.val_dataloader()))
    training = model.net.training
    model.net.eval()
    try:
        with torch.no_grad():
            logits = model.net(data.normalise(images[:1]))
    except RuntimeError as error:
        raise UsageError(f"--model.net {name} cannot take these images: {error}") from error
    finally:
        model.net.train(training)
    if logits.shape != (1, data.num_classes):
        raise UsageError(
            f"--model.net {name} gives {tuple(logits.shape[1:])} outputs for an image, but the "
            f"data have {data.num_classes} classes."
        )
    try:
        model.configure_optimizers()
    except (ValueError, TypeError) as error:
        raise UsageError(f"--model.optimizer, --model.lr_scheduler: {error}") from error
