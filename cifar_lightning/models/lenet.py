"""LeNet-5 for colour images."""

from torch import Tensor, nn

from cifar_lightning.models.network import Network


class LeNet5(Network):
    """LeNet-5 as it is built today: ReLU and max pooling in place of the sigmoids and trained
    subsampling of LeCun et al. 1998, http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf, figure 2,
    and three input channels. With ten classes it has 62,006 parameters.

    Args:
        num_classes: the number of logits.
    """

    image_side = 32

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.features = nn.Sequential(  # 3×32×32
            nn.Conv2d(3, 6, kernel_size=5),  # 6×28×28
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2),  # 6×14×14
            nn.Conv2d(6, 16, kernel_size=5),  # 16×10×10
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2),  # 16×5×5
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),  # 400
            nn.Linear(400, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float N×num_classes, of normalised images, float N×3×32×32."""
        logits: Tensor = self.classifier(self.features(images))
        return logits
