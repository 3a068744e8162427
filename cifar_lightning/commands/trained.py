"""The network of a checkpoint, with what it has to know of its images."""

from argparse import ArgumentError
from pydoc import locate
from typing import Any, NamedTuple

from cifar_lightning.classifier import ImageClassifier
from cifar_lightning.errors import UserError, own_traceback, words
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
        classifier = ImageClassifier.load_from_checkpoint(
            found.path, map_location="cpu", **_made_by_function(found)
        )
    except ArgumentError as error:  # jsonargparse, by which the network is made
        net = found.content["hyper_parameters"]["net"]["class_path"]
        raise UserError(
            f"{found.path}: its network {net} cannot be imported: put its module on PYTHONPATH."
        ) from error
    except RuntimeError as error:
        if own_traceback(error) is not None:
            raise
        # torch's, of names and shapes
        raise UserError(
            f"{found.path} does not hold the weights of its network ({words(error)})."
        ) from error
    return Trained(classifier.eval(), RunConfig(ours["config"]), tuple(ours["class_names"]))


def _made_by_function(found: LoadedCheckpoint) -> dict[str, Any]:
    """The network, if a function returns it: jsonargparse makes those of classes alone."""
    described = found.content.get("hyper_parameters", {}).get("net")
    make = locate(described["class_path"]) if isinstance(described, dict) else None
    if make is None or isinstance(make, type) or not callable(make):
        return {}
    return {"net": make(**described.get("init_args", {}))}
