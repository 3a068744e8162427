"""The network of a checkpoint, with what it has to know of its images."""

from argparse import ArgumentError
from typing import NamedTuple

from cifar_lightning.classifier import ImageClassifier
from cifar_lightning.errors import UserError
from cifar_lightning.runs.config import RunConfig
from cifar_lightning.runs.folders import LoadedCheckpoint


class Trained(NamedTuple):
    """What classifies pictures."""

    classifier: ImageClassifier
    """On the CPU, in evaluation mode."""
    config: RunConfig
    """Of its run: how images were normalised."""
    class_names: tuple[str, ...]


def load_trained(found: LoadedCheckpoint) -> Trained:
    """Make the network of a checkpoint again.

    Raises:
        UserError: the checkpoint lacks what is needed, or the network's code is not found.
    """
    ours = found.ours
    if ours.get("config") is None or ours.get("class_names") is None:
        raise UserError(
            f"{found.path} does not say how its images were normalised and what its classes are "
            "called: take a checkpoint that `fit` of this version has written."
        )
    try:
        classifier = ImageClassifier.load_from_checkpoint(found.path, map_location="cpu")
    except ArgumentError as error:  # jsonargparse, by which the network is made
        net = found.content["hyper_parameters"]["net"]["class_path"]
        raise UserError(
            f"{found.path}: its network {net} cannot be imported: put its module on PYTHONPATH."
        ) from error
    return Trained(classifier.eval(), RunConfig(ours["config"]), tuple(ours["class_names"]))
