"""VGG19 for 32×32 images."""

from torch import Tensor, nn
from torch.nn import functional as F

from cifar_lightning.models.network import Network

# Channels of the convolutions between two poolings: Simonyan and Zisserman 2014, configuration E.
_STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))


class VGG19(Network):
    """VGG19's sixteen convolutions, https://arxiv.org/abs/1409.1556, and one linear layer.

    The three linear layers of the original are for 224×224 images: after five poolings a 32×32
    image is a single vector of 512; of larger ones the mean is. With ten classes it has 20,029,514
    parameters, with batch norm 20,040,522.

    Args:
        num_classes: the number of logits.
        batch_norm: normalise after each convolution, whose bias is kept as in torchvision's
            ``vgg19_bn``. Without it sixteen layers train only from a careful start:
            ``--model.initialisation kaiming``.
    """

    def __init__(self, num_classes: int = 10, batch_norm: bool = False) -> None:
        super().__init__()
        self.num_classes = num_classes
        layers: list[nn.Module] = []
        before = 3
        for channels, convolutions in _STAGES:
            for _ in range(convolutions):
                layers.append(nn.Conv2d(before, channels, kernel_size=3, padding=1))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(channels))
                layers.append(nn.ReLU())
                before = channels
            layers.append(nn.MaxPool2d(kernel_size=2))  # 16, 8, 4, 2, 1 pixels a side
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(before, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float N×num_classes, of normalised images, float N×3×H×W, 32×32 or larger."""
        # of 32×32 pixels one place is left, whose mean is itself
        logits: Tensor = self.classifier(F.adaptive_avg_pool2d(self.features(images), 1))
        return logits
