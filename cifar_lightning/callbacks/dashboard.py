"""What TensorBoard shows beside loss, accuracy, learning rate and speed."""

from dataclasses import dataclass

from pytorch_lightning import Callback

from cifar_lightning.callbacks.card import Card, Graph, HParams
from cifar_lightning.callbacks.collector import Collector
from cifar_lightning.callbacks.curves import ChartLayout, ClassAccuracy, GradientNorm, Histograms
from cifar_lightning.callbacks.pictures import Pictures
from cifar_lightning.data import CIFAR10DataModule


@dataclass
class Dashboard:
    """Which parts of the dashboard there are.

    Args:
        layout: charts with training and validation together.
        gradient_norm: the norm of the gradients at every logged step.
        class_accuracy: the validation accuracy of each class.
        pictures_every_n_epochs: confusion matrix, mistakes, calibration, filters and a training
            batch, so often; 0 for none.
        card: command, versions, device, commit, data and network, as text and ``card.json``.
        hparams: the run's choices against its results.
        graph: the network's graph.
        histograms: of weights and gradients, each epoch.
    """

    layout: bool = True
    gradient_norm: bool = True
    class_accuracy: bool = True
    pictures_every_n_epochs: int = 5
    card: bool = True
    hparams: bool = True
    graph: bool = True
    histograms: bool = False

    def __post_init__(self) -> None:
        if self.pictures_every_n_epochs < 0:
            raise ValueError(
                f"dashboard.pictures_every_n_epochs {self.pictures_every_n_epochs} must be 0 "
                "for none, or more"
            )

    def callbacks(self, data: CIFAR10DataModule) -> list[Callback]:
        """The parts that were chosen."""
        collector = Collector()
        parts: list[tuple[bool | int, Callback]] = [
            (self.pictures_every_n_epochs, collector),
            (self.layout, ChartLayout()),
            (self.gradient_norm, GradientNorm()),
            (self.class_accuracy, ClassAccuracy(data)),
            (
                self.pictures_every_n_epochs,
                Pictures(collector, data, self.pictures_every_n_epochs),
            ),
            (self.card, Card(data)),
            (self.hparams, HParams()),
            (self.graph, Graph(data)),
            (self.histograms, Histograms()),
        ]
        return [callback for chosen, callback in parts if chosen]
