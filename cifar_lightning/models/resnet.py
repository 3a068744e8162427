"""ResNet-18 for 32×32 images."""

from torch import Tensor, nn
from torch.nn import functional as F

from cifar_lightning.models.network import Network


class ResNet18(Network):
    """ResNet-18, https://arxiv.org/abs/1512.03385, with the start for small images that CIFAR
    projects use: one 3×3 convolution of stride 1 and no pooling. With ten classes it has
    11,173,962 parameters.

    Args:
        num_classes: the number of logits.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.start = nn.Sequential(_convolution(3, 64), nn.BatchNorm2d(64), nn.ReLU())
        self.blocks = nn.Sequential(  # 64×32×32
            _Block(64, 64), _Block(64, 64),
            _Block(64, 128, stride=2), _Block(128, 128),  # 128×16×16
            _Block(128, 256, stride=2), _Block(256, 256),  # 256×8×8
            _Block(256, 512, stride=2), _Block(512, 512),  # 512×4×4
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float N×num_classes, of normalised images, float N×3×H×W."""
        logits: Tensor = self.classifier(self.blocks(self.start(images)))
        return logits


class _Block(nn.Module):
    """Two convolutions, and around them the identity, or where the shape changes a 1×1
    convolution (option B of the paper)."""

    def __init__(self, before: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _convolution(before, channels, stride),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            _convolution(channels, channels),
            nn.BatchNorm2d(channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, channels, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(channels),
            )

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.residual(images) + self.shortcut(images))


def _convolution(before: int, channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, channels, kernel_size=3, stride=stride, padding=1, bias=False)
