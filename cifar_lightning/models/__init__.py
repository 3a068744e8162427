"""Networks: plain ``nn.Module``, from normalised N×3×32×32 images to N×num_classes logits."""

from cifar_lightning.models.alexnet import AlexNet
from cifar_lightning.models.network import Network

__all__ = ["AlexNet", "Network"]
