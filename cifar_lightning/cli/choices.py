"""The classes that help names: the project's own, and a few of torch and Lightning.

Arguments are explained here; their defaults are those of the classes themselves.
"""

from dataclasses import dataclass, field

from pytorch_lightning.callbacks import EarlyStopping
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, ReduceLROnPlateau

from cifar_lightning.callbacks import AveragedWeights
from cifar_lightning.data import CIFAR10, ImageFolder, Shapes, Torchvision
from cifar_lightning.models import VGG19, AlexNet, LeNet5, ResNet18
from cifar_lightning.optimizers.muon import MuonSGD


@dataclass(frozen=True)
class Choice:
    """A class that can be the value of an option.

    Args:
        of: the class.
        text: what it is.
        arguments: those that are worth a line each, as help prints them.
    """

    of: type
    text: str
    arguments: dict[str, str] = field(default_factory=dict)


CHOICES: dict[str, dict[str, Choice]] = {
    "data.source": {
        "CIFAR10": Choice(
            CIFAR10,
            "50,000 training and 10,000 test images, 32×32, ten classes",
            {
                "root DIR": "The folder that holds the archive or the unpacked files; fetched into "
                "it if they are not there.",
                "mirrors [URL,...]": "Addresses of the archive to try before the built-in ones.",
            },
        ),
        "ImageFolder": Choice(
            ImageFolder,
            "your own images: train/<class>/* and test/<class>/*, val/<class>/* if there is one",
            {
                "root DIR": "The folder that holds train and test.",
                "resize N": "Cut each image to the square in its middle and scale it to N pixels a "
                "side; without it all must be square and have the same size.",
            },
        ),
        "Torchvision": Choice(
            Torchvision,
            "one of the data sets that Torchvision knows and fetches; greyscale becomes RGB",
            {
                "name NAME": "CIFAR100, MNIST, SVHN, STL10, Food101 and others with a training and "
                "a test split.",
                "root DIR": "The folder that holds it or shall hold it.",
                "resize N": "As above.",
                "options {KEY:VALUE}": "Further arguments of its class, such as {split: letters} "
                "of EMNIST.",
            },
        ),
        "Shapes": Choice(
            Shapes,
            "ten classes of 32×32 pictures that the program draws, for a try without a download",
            {
                "size N": "Training images, a multiple of 50; a fifth as many test images.",
                "seed N": "Another seed draws other pictures of the same kind.",
            },
        ),
    },
    "model.net": {
        "AlexNet": Choice(AlexNet, "five convolutions, three linear layers; 6.6 M parameters"),
        "LeNet5": Choice(LeNet5, "two convolutions, three linear layers; 62 k parameters"),
        "ResNet18": Choice(ResNet18, "residual blocks, batch norm; 11.2 M parameters"),
        "VGG19": Choice(
            VGG19,
            "sixteen convolutions, one linear layer; 20.0 M parameters",
            {
                "batch_norm BOOL": "Normalise after each convolution. Without it VGG19 needs "
                "--model.initialisation kaiming to train.",
            },
        ),
    },
    "model.optimizer": {
        "SGD": Choice(
            SGD,
            "stochastic gradient descent",
            {
                "lr X": "The learning rate.",
                "momentum X": "0 for none.",
                "weight_decay X": "0 for none.",
                "nesterov BOOL": "Nesterov's momentum.",
            },
        ),
        "MuonSGD": Choice(
            MuonSGD, "Muon for weights between the first layer and the last, SGD for the rest"
        ),
    },
    "model.lr_scheduler": {
        "CosineAnnealingLR": Choice(
            CosineAnnealingLR,
            "down along half a cosine",
            {
                "T_max N": "Its length in intervals; -1, with the interval step, for all steps of "
                "the run that the warm-up leaves.",
            },
        ),
        "LinearLR": Choice(
            LinearLR,
            "straight from one factor of the rate to another",
            {
                "start_factor X": "The first factor, above 0.",
                "end_factor X": "The last.",
                "total_iters N": "Its length in intervals; -1 as above.",
            },
        ),
        "torch.optim.lr_scheduler.ReduceLROnPlateau": Choice(
            ReduceLROnPlateau,
            "down when val/loss no longer falls",
            {
                "factor X": "Multiplies the rate.",
                "patience N": "Intervals without a better value before that.",
            },
        ),
    },
    "trainer.callbacks": {
        "AveragedWeights": Choice(
            AveragedWeights,
            "validate and test an exponential moving average of the weights",
            {"decay X": "Share of the average that stays at each step."},
        ),
        "EarlyStopping": Choice(
            EarlyStopping,
            "stop when a metric no longer improves; Lightning's own",
            {
                "monitor NAME": "The metric, such as val/loss.",
                "mode NAME": "min, or max for val/acc.",
                "patience N": "Validations without a better value before that.",
            },
        ),
    },
}
"""By option of ``fit``, and by what one types."""
