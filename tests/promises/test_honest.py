"""Promise: a figure is of the images that it says, and what it was made with stands beside it."""

import json
from pathlib import Path

import pytest
import torch
from helpers import TINY, events, one_sentence
from program import Command
from torch import Tensor

from cifar_lightning import CIFAR10DataModule, ImageClassifier
from cifar_lightning.data import Shapes
from cifar_lightning.data.source import LabelledImages, Split


def test_the_test_split_is_read_by_test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Split] = []
    load = Shapes.load

    def watched(self: Shapes, split: Split) -> LabelledImages:
        read.append(split)
        return load(self, split)

    monkeypatch.setattr(Shapes, "load", watched)
    for stage in ("fit", "validate", "predict"):
        CIFAR10DataModule(Shapes(100), val_size=20).setup(stage)
    assert read == ["train"] * 3
    CIFAR10DataModule(Shapes(100), val_size=20).setup("test")
    assert read[3:] == ["test"]
    article = CIFAR10DataModule(Shapes(100), val_size=0)
    article.setup("fit")
    assert read[4:] == ["train", "test"]
    assert len(article.val_dataloader()) == 1
    assert article.val_dataloader().images_per_epoch == 20


def test_flip_averaging_is_told_apart(command: Command, run: Path) -> None:
    assert command("test").status == 0
    single = json.loads((run / "test_report.json").read_text())
    ended = command("test", "--model.flip_averaging", "true")
    assert ended.status == 0, ended.stderr
    assert "averaged over each image and its mirror image" in ended.stdout
    averaged = json.loads((run / "test_report_flip_averaged.json").read_text())
    assert averaged["flip_averaged"]
    assert not single["flip_averaged"]
    tags = events(run).Tags()["scalars"]
    assert {"test/acc", "test/acc_flip_averaged"} <= set(tags)
    assert json.loads((run / "test_report.json").read_text()) == single
    ckpt = next(run.glob("checkpoints/epoch=*"))
    model = ImageClassifier.load_from_checkpoint(ckpt)
    images, labels = Shapes(300).load("test")
    pixels: Tensor = (images.float().permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.no_grad():
        logits = (model(pixels) + model(pixels.flip(3))) / 2
    right = (logits.argmax(dim=1) == labels).float().mean().item()
    assert averaged["accuracy"] == pytest.approx(right)
    assert single["accuracy"] != averaged["accuracy"]
    refused = command("fit", *TINY, "--model.flip_averaging", "true")
    assert refused.status == 2
    assert "--model.flip_averaging is for validate, test and predict" in one_sentence(refused)
