"""AlexNet cut down for 32×32 images."""

from torch import Tensor, nn

from cifar_lightning.models.network import Network


class AlexNet(Network):
    """CIFAR AlexNet: five convolutions and three linear layers, ReLU throughout.

    No dropout and no normalisation; PyTorch's default initialisation. With ten classes it has
    6,616,714 parameters.

    Args:
        num_classes: the number of logits.
    """

    image_side = 32

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.features = nn.Sequential(  # 3×32×32
            nn.Conv2d(3, 96, kernel_size=7, stride=2, padding=2),  # 96×15×15
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),  # 96×7×7
            nn.Conv2d(96, 256, kernel_size=5, padding=2),  # 256×7×7
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),  # 256×3×3
            nn.Conv2d(256, 384, kernel_size=3, padding=1),  # 384×3×3
            nn.ReLU(),
            nn.Conv2d(384, 384, kernel_size=3, padding=1),  # 384×3×3
            nn.ReLU(),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),  # 256×3×3
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),  # 2304
            nn.Linear(2304, 1024),
            nn.ReLU(),
            nn.Linear(1024, 512),
            nn.ReLU(),
            nn.Linear(512, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits of normalised images.

        Args:
            images: float, N×3×32×32.

        Returns:
            logits, float, N×num_classes.
        """
        logits: Tensor = self.classifier(self.features(images))
        return logits
