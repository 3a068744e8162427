"""A network, a loss, a metric and a callback of one's own."""

from pathlib import Path

import pytest
import torch
from helpers import EVERY_STEP, TINY, last_state, logged, one_sentence, write_images
from program import Command
from pytorch_lightning import Trainer
from stand_ins import MeanSquares, Tiny
from torch.nn import functional as F
from torchmetrics.classification import MulticlassF1Score

from cifar_lightning import CIFAR10DataModule, ImageClassifier
from cifar_lightning.data import Shapes

RUN = "lightning_logs/version_0"
OWN_LOSS = ("--model.loss", "stand_ins.MeanSquares", "--model.loss.scale", "0.5")


def test_own_network_is_given_the_number_of_classes(command: Command, tmp_path: Path) -> None:
    for split in ("train", "test"):
        for shade, name in enumerate(("one", "two", "three")):
            write_images(tmp_path / "my_images" / split / name, 20, 100 * shade)
    images = ("--data.source", "ImageFolder", "--data.source.root", "my_images")
    flags = (
        *images,
        "--data.val_size",
        "15",
        "--trainer.max_epochs",
        "1",
        "--data.batch_size",
        "8",
    )
    net = ("--model.net", "stand_ins.Required")
    ended = command("fit", *flags, *net, "--trainer.accelerator", "cpu")
    assert ended.status == 0, ended.stderr
    assert last_state(tmp_path / RUN)["state_dict"]["net.layers.2.bias"].shape == (3,)
    ended = command("fit", *flags, *net, "--model.net.num_classes", "4")
    assert "--model.net.num_classes 4: the data have 3 classes" in one_sentence(ended)


def test_own_loss_against_a_loop(command: Command, tmp_path: Path) -> None:
    ended = command("fit", *TINY, *OWN_LOSS, *EVERY_STEP, "--trainer.max_epochs", "1")
    assert ended.status == 0, ended.stderr
    data = CIFAR10DataModule(Shapes(300), batch_size=32, val_size=50)
    data.setup("fit")
    torch.manual_seed(42)
    net, losses = Tiny(), []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    for images, labels in data.train_dataloader():
        logits = net(images)
        loss = 0.5 * (logits.softmax(1) - F.one_hot(labels, 10)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert logged(tmp_path / RUN, "train/loss") == pytest.approx(losses, abs=1e-6)


def test_own_loss_with_weights_is_trained_and_resumed(command: Command, tmp_path: Path) -> None:
    loss = ("--model.loss", "stand_ins.Tempered")
    assert command("fit", *TINY, *loss, "--trainer.max_epochs", "1").status == 0
    before = last_state(tmp_path / RUN)["state_dict"]["loss.temperature"]
    assert before != 1
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2")
    assert ended.status == 0, ended.stderr
    assert last_state(tmp_path / RUN)["state_dict"]["loss.temperature"] != before
    ended = command("test", "--ckpt_path", "last")
    assert ended.status == 0, ended.stderr


def test_label_smoothing_belongs_to_the_default_loss(command: Command) -> None:
    ended = command("fit", *TINY, *OWN_LOSS, "--model.label_smoothing", "0.1")
    assert "model.label_smoothing belongs to the default loss" in one_sentence(ended)


METRICS = (
    "--model.metrics", "torchmetrics.classification.MulticlassF1Score",
    "--model.metrics.average", "macro", "--model.metrics+", "stand_ins.Confidence",
)  # fmt: skip


def test_own_metrics_are_logged(command: Command, tmp_path: Path) -> None:
    ended = command("fit", *TINY, *METRICS, "--trainer.max_epochs", "1")
    assert ended.status == 0, ended.stderr
    (f1,) = logged(tmp_path / RUN, "val/MulticlassF1Score")
    (confidence,) = logged(tmp_path / RUN, "val/Confidence")
    data = CIFAR10DataModule(Shapes(300), batch_size=32, val_size=50)
    module = ImageClassifier.load_from_checkpoint(tmp_path / RUN / "checkpoints/last.ckpt")
    data.setup("fit")
    batches = list(data.val_dataloader())
    with torch.no_grad():
        probabilities = torch.cat([module(images) for images, _ in batches]).softmax(dim=1)
    labels = torch.cat([labels for _, labels in batches])
    assert f1 == pytest.approx(float(MulticlassF1Score(10)(probabilities, labels)), abs=1e-6)
    assert confidence == pytest.approx(float(probabilities.max(dim=1).values.mean()), abs=1e-6)
    ended = command("test", "--ckpt_path", "best")
    assert ended.status == 0, ended.stderr


def test_a_metric_of_several_numbers_is_refused(command: Command) -> None:
    metric = ("--model.metrics", "torchmetrics.classification.MulticlassConfusionMatrix")
    ended = command("fit", *TINY, *metric)
    assert "MulticlassConfusionMatrix gives more than one number" in one_sentence(ended)


def test_other_classes_than_the_module_was_made_for(tmp_path: Path) -> None:
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    data = CIFAR10DataModule(Shapes(300), batch_size=32, val_size=50)
    with pytest.raises(Exception, match="num_classes=12"):
        trainer.fit(ImageClassifier(Tiny(12)), data)
    trainer.fit(ImageClassifier(Tiny(12), loss=MeanSquares(classes=12), num_classes=12), data)
    assert trainer.callback_metrics["val/acc"] <= 1
