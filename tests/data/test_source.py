"""Sources of one's own: what they give is checked when it is loaded."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cifar_lightning import CIFAR10DataModule
from cifar_lightning.data import LabelledImages, Source
from cifar_lightning.data.source import Split
from cifar_lightning.errors import UserError

IMAGES = torch.randint(0, 256, (40, 8, 8, 3), generator=torch.manual_seed(0)).byte()
LABELS = torch.arange(40) % 4
NAMES = ("ant", "bee", "cat", "dog")


class Animals(Source):
    """Gives for each split what it was made with."""

    def __init__(self, train: Any, test: Any = (IMAGES, LABELS), names: Any = NAMES) -> None:
        self._splits = {"train": train, "test": test}
        self._names = names

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._names  # type: ignore[no-any-return]

    def load(self, split: Split) -> LabelledImages:
        return self._splits[split]  # type: ignore[no-any-return]


def loaded(*splits: Any, stage: str = "fit", val_size: int = 8, **how: Any) -> CIFAR10DataModule:
    data = CIFAR10DataModule(Animals(*splits, **how), batch_size=4, val_size=val_size)
    data.setup(stage)
    return data


def sentence(*splits: Any, **how: Any) -> str:
    with pytest.raises(UserError) as caught:
        loaded(*splits, **how)
    message = str(caught.value)
    assert message.startswith("Animals")
    assert message.endswith(".")
    assert "\n" not in message
    return message


def nested(values: Tensor) -> list[Any]:
    return values.tolist()


@pytest.mark.parametrize(
    ("train", "says"),
    [
        (None, "a NoneType: it must give LabelledImages"),
        ({"images": IMAGES, "labels": LABELS}, "a dict: it must give LabelledImages"),
        (IMAGES, "torch.Tensor of torch.uint8: it must give LabelledImages"),
        ((IMAGES, LABELS, LABELS), "a tuple of 3: it must give LabelledImages"),
        ((IMAGES / 255, LABELS), "images as torch.Tensor of torch.float32: they must be a tensor"),
        ((IMAGES.numpy() / 255, LABELS), "images as numpy.ndarray of float64"),
        ((IMAGES.long(), LABELS), "images as torch.Tensor of torch.int64"),
        ((nested(IMAGES), LABELS), "images as a list of 40"),
        ((IMAGES.permute(0, 3, 1, 2), LABELS), r"images of the shape \(40, 3, 8, 8\)"),
        ((IMAGES[..., 0], LABELS), r"images of the shape \(40, 8, 8\)"),
        ((IMAGES[..., :1], LABELS), r"images of the shape \(40, 8, 8, 1\)"),
        ((IMAGES[:, :5], LABELS), r"images of the shape \(40, 5, 8, 3\)"),
        ((IMAGES[:, :0, :0], LABELS), r"images of the shape \(40, 0, 0, 3\)"),
        ((IMAGES[:0], LABELS[:0]), "no images"),
        ((IMAGES, LABELS[:30]), r"labels of the shape \(30,\) for 40 images"),
        ((IMAGES, LABELS[:, None]), r"labels of the shape \(40, 1\) for 40 images"),
        ((IMAGES, LABELS[0]), r"labels of the shape \(\) for 40 images"),
        ((IMAGES, LABELS.float()), "labels as torch.Tensor of torch.float32"),
        ((IMAGES, LABELS > 1), "labels as torch.Tensor of torch.bool"),
        ((IMAGES, np.array(NAMES * 10)), "labels as numpy.ndarray of <U3"),
        ((IMAGES, [NAMES[i] for i in LABELS]), "labels as a list of 40"),
        ((IMAGES, LABELS + 1), "the label 4, but class_names has 4 names: labels must go from 0"),
        ((IMAGES, LABELS - 1), "the label -1, but"),
    ],
)
def test_what_is_no_split_is_refused_in_a_sentence(train: Any, says: str) -> None:
    said = sentence(train)
    assert re.search(rf'^Animals\.load\("train"\) gives.*{says}', said)
    test = sentence((IMAGES, LABELS), train, stage="test")
    assert test == said.replace('"train"', '"test"')


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (None, "is None: it must be a tuple of strings"),
        ((), r"is \(\): it must be a tuple of strings"),
        ("abcd", "is 'abcd': it must be a tuple"),
        ((0, 1, 2, 3), "has 0 among its names"),
        (("ant", "bee", "", "dog"), "has '' among its names"),
        (("ant", "bee", "bee", "dog"), "has 'bee' twice"),
    ],
)
def test_names_that_name_nothing_are_refused_in_a_sentence(names: Any, says: str) -> None:
    with pytest.raises(UserError, match=rf"^Animals\.class_names {says}"):
        loaded((IMAGES, LABELS), names=names)
    with pytest.raises(UserError, match=says):
        _ = CIFAR10DataModule(Animals((IMAGES, LABELS), names=names)).num_classes


def test_other_images_to_train_on_than_to_test_on() -> None:
    smaller = (IMAGES[:, :4, :4], LABELS)
    assert "8 pixels a side to train on and of 4" in sentence((IMAGES, LABELS), smaller, val_size=0)
    data = loaded((IMAGES, LABELS), smaller)
    with pytest.raises(UserError, match="must have the same size"):
        data.setup("test")


@pytest.mark.parametrize("what", ["Shapes", Animals, (IMAGES, LABELS), ()])
def test_what_is_no_source(what: Any) -> None:
    with pytest.raises(TypeError, match=r"^data\.source is .*, but must be a Source"):
        CIFAR10DataModule(what)


def reversed_in_memory(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values[::-1])[::-1]


def read_only(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values.setflags(write=False)
    return values


SAME: dict[str, Callable[[], Any]] = {
    "LabelledImages": lambda: LabelledImages(IMAGES, LABELS),
    "list": lambda: [IMAGES, LABELS],
    "int32": lambda: (IMAGES, LABELS.int()),
    "uint8": lambda: (IMAGES, LABELS.byte()),
    "NumPy": lambda: (IMAGES.numpy(), LABELS.numpy()),
    "NumPy, big-endian": lambda: (IMAGES.numpy(), LABELS.numpy().astype(">i2")),
    "NumPy, read-only": lambda: (read_only(IMAGES.numpy()), read_only(LABELS.numpy())),
    "NumPy, backwards": lambda: tuple(reversed_in_memory(v.numpy()) for v in (IMAGES, LABELS)),
    "permuted": lambda: (IMAGES.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1), LABELS),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", SAME)
def test_what_is_plain_to_see_is_converted(kind: str) -> None:
    data, plain = loaded(SAME[kind]()), loaded((IMAGES, LABELS))
    assert data.fingerprint == plain.fingerprint
    ours, theirs = data.splits.training.data, plain.splits.training.data
    assert torch.equal(ours.images, theirs.images)
    assert torch.equal(ours.labels, theirs.labels)
    assert (ours.images.dtype, ours.labels.dtype) == (torch.uint8, torch.int64)


@pytest.mark.parametrize("kind", ["LabelledImages", "NumPy"])
def test_images_are_not_copied(kind: str) -> None:
    images = loaded(SAME[kind]()).splits.training.data.images
    assert images.data_ptr() == IMAGES.data_ptr()
