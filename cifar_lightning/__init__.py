"""AlexNet on CIFAR-10 with PyTorch Lightning: exact on resume, honest in its figures."""

from cifar_lightning.classifier import ImageClassifier
from cifar_lightning.data import CIFAR10DataModule
from cifar_lightning.models import AlexNet

__all__ = ["AlexNet", "CIFAR10DataModule", "ImageClassifier"]
