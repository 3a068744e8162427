"""Networks: plain ``nn.Module``, from normalised N×3×32×32 images to N×num_classes logits."""

from cifar_lightning.models.alexnet import AlexNet
from cifar_lightning.models.lenet import LeNet5
from cifar_lightning.models.network import Network
from cifar_lightning.models.resnet import ResNet18
from cifar_lightning.models.vgg import VGG19

__all__ = ["VGG19", "AlexNet", "LeNet5", "Network", "ResNet18"]
