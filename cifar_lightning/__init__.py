"""AlexNet on CIFAR-10 with PyTorch Lightning: exact on resume, honest in its figures."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cifar_lightning.classifier import ImageClassifier
    from cifar_lightning.cli.from_python import fit
    from cifar_lightning.commands.predictor import Predictor
    from cifar_lightning.data import CIFAR10DataModule
    from cifar_lightning.models import AlexNet

__all__ = ["AlexNet", "CIFAR10DataModule", "ImageClassifier", "Predictor", "fit"]

_HOMES = {
    "AlexNet": "models",
    "CIFAR10DataModule": "data",
    "ImageClassifier": "classifier",
    "Predictor": "commands.predictor",
    "fit": "cli.from_python",
}


def __getattr__(name: str) -> Any:
    # on first use: they import torch, and `compare` and `--help` shall answer without those seconds
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
