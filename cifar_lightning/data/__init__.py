"""Data, from disk to device: sources of images, and the data module that serves them."""

from cifar_lightning.data.cifar10 import CIFAR10
from cifar_lightning.data.datamodule import CIFAR10DataModule
from cifar_lightning.data.image_folder import ImageFolder
from cifar_lightning.data.pictures import as_rgb, is_no_image, read_image, square
from cifar_lightning.data.shapes import Shapes
from cifar_lightning.data.source import LabelledImages, Source
from cifar_lightning.data.torchvision import Torchvision

__all__ = [
    "CIFAR10",
    "CIFAR10DataModule",
    "ImageFolder",
    "LabelledImages",
    "Shapes",
    "Source",
    "Torchvision",
    "as_rgb",
    "is_no_image",
    "read_image",
    "square",
]
