"""The forms in which a batch reaches a module, and what it makes of them."""

import warnings
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from cifar_lightning.data.batches import Share
from cifar_lightning.errors import UsageError
from cifar_lightning.processes.collectives import world_size


def are_pixels(batch: Any) -> bool:
    """Whether a batch is one of ``Batches.pixels``."""
    if type(batch) is not tuple or not isinstance(batch[0], Tensor):
        return False
    return batch[0].dtype is torch.uint8


def as_taken(module: LightningModule, images: Tensor, labels: Tensor, of: tuple[int, ...]) -> Any:
    """A batch in the form that a module takes.

    Args:
        module: whatever is trained or evaluated.
        images: float N×3×H×W.
        labels: int64 N.
        of: if these are a share of a batch, how many images all shares have together.

    Raises:
        UsageError: the share is empty, and the module does not know of shares.
    """
    if getattr(module, "takes_shares", False):
        return Share(images, labels, of[0]) if of else (images, labels)
    if len(labels) == 0:
        raise UsageError(
            f"{type(module).__name__} cannot be given a share of a batch of {of[0]} images, fewer "
            "than processes: choose --data.batch_size so that the last batch is larger."
        )
    return images.contiguous(), labels  # others may view() them as rows


def images_and_labels(batch: Any) -> tuple[Tensor, Tensor]:
    """The images and labels of a batch, from whatever loader it is.

    Raises:
        UsageError: it does not begin with these two.
    """
    if type(batch) is tuple and len(batch) == 2:
        return batch
    if isinstance(batch, Share):
        return batch.images, batch.labels
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        raise UsageError(
            f"ImageClassifier takes batches of images and labels, but its loader gives a "
            f"{type(batch).__name__}: have it give a tuple of these two."
        )
    if len(batch) > 2:
        warnings.warn(
            f"The loader gives batches of {len(batch)} parts; ImageClassifier takes the first two "
            "as images and labels, and leaves the others.",
            stacklevel=2,
        )
    return batch[0], batch[1]


def share_of_mean(loss: Tensor, logits: Tensor, images: int) -> Tensor:
    """What a process adds to the mean over all images of a batch. DDP divides the sum of the
    gradients by the number of processes, not of images."""
    if len(logits) == 0:
        return logits.sum()  # 0, where the mean over no images is not a number
    return loss * (len(logits) * world_size() / images)
