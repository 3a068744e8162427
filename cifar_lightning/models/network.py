"""What the project's own networks have in common."""

from torch import nn


class Network(nn.Module):
    """From normalised images, float N×3×H×W, to logits, float N×num_classes.

    Being of this type lets a network be named on the command line without its module:
    ``AlexNet`` alone would also mean torchvision's.
    """

    image_side: int | None = None
    """Height and width of the images that it is made for; None if it takes others, too."""
