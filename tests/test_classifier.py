"""The LightningModule by itself: from Python, from a checkpoint, its optimizer, its means."""

import pickle
from pathlib import Path

import pytest
import torch
from helpers import RUN, TINY, assert_equal, events, net_weights
from program import Command
from pytorch_lightning import Trainer
from stand_ins import MeanSquares, Tiny
from torch.nn import functional as F

from cifar_lightning import AlexNet, CIFAR10DataModule, ImageClassifier
from cifar_lightning.data import Shapes
from cifar_lightning.errors import UsageError
from cifar_lightning.models import ResNet18


def test_load_from_checkpoint(command: Command, tmp_path: Path) -> None:
    schedule = ("--model.lr_scheduler", "CosineAnnealingLR", "--model.lr_scheduler.T_max", "5")
    ended = command("fit", *TINY, "--trainer.max_epochs", "1", *schedule)
    assert ended.status == 0, ended.stderr
    path = tmp_path / RUN / "checkpoints/last.ckpt"
    weights = net_weights(tmp_path / RUN)["layers.2.weight"]
    data = CIFAR10DataModule(Shapes(300), batch_size=32, val_size=50)
    for _ in range(2):  # the second is of a run from Python that began with the first
        classifier = ImageClassifier.load_from_checkpoint(path)
        assert isinstance(classifier.net, Tiny)
        assert torch.equal(next(classifier.net.parameters()), weights)
        assert_equal(pickle.loads(pickle.dumps(classifier)).state_dict(), classifier.state_dict())
        # nothing but plain values: Lightning reads it with weights_only
        ImageClassifier.load_from_checkpoint(path, net=Tiny(), weights_only=True)
        if "python" not in str(path):
            trainer = Trainer(
                max_epochs=1, default_root_dir=tmp_path, logger=False, accelerator="cpu",
                enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
                limit_train_batches=1, num_sanity_val_steps=0,
            )  # fmt: skip
            trainer.fit(classifier, data)
            path = tmp_path / "python.ckpt"
            trainer.save_checkpoint(path)
            weights = next(classifier.net.parameters()).detach().clone()
    with pytest.raises(UsageError, match="holds no data module"):
        CIFAR10DataModule.load_from_checkpoint(path)


def test_load_from_checkpoint_of_objects(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = Trainer(
        max_epochs=1, default_root_dir=tmp_path, accelerator="cpu", enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    data = CIFAR10DataModule(Shapes(300), batch_size=32, val_size=50)
    classifier = ImageClassifier(Tiny(), loss=MeanSquares())
    trainer.fit(classifier, data)
    (path,) = tmp_path.rglob("*.ckpt")
    with pytest.raises(TypeError, match="'net'"):
        ImageClassifier.load_from_checkpoint(path)
    same = ImageClassifier.load_from_checkpoint(path, net=Tiny(), loss=MeanSquares())
    assert "loss" not in caplog.text
    assert_equal(same.state_dict(), classifier.state_dict())
    ImageClassifier.load_from_checkpoint(path, net=Tiny())
    assert "was trained with the loss MeanSquares" in caplog.messages[-1]


def test_a_step_by_hand() -> None:
    classifier = ImageClassifier(Tiny())
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    loss = classifier.training_step((images, labels), 0)
    assert loss == F.cross_entropy(classifier(images), labels)
    loss.backward()
    assert classifier.validation_step((images, labels), 0).shape == (4, 10)


def test_python_interface(tmp_path: Path) -> None:
    data = CIFAR10DataModule(Shapes(100), batch_size=16, val_size=20, seed=1)
    classifier = ImageClassifier(AlexNet())
    trainer = Trainer(
        max_epochs=1, default_root_dir=tmp_path, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(classifier, data)
    assert trainer.global_step == 5
    probabilities = trainer.predict(classifier, data)
    assert probabilities is not None
    sums = [row.sum().item() for batch in probabilities for row in batch]
    assert sums == pytest.approx([1.0] * 20)


def test_biases_and_scales_do_not_decay() -> None:
    model = ImageClassifier(
        ResNet18(), lambda params: torch.optim.SGD(params, lr=0.1, weight_decay=0.5)
    )
    before = {name: p.detach().clone() for name, p in model.net.named_parameters()}
    optimizer = model.new_optimizer(model.net)
    for p in model.net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.net.named_parameters():
        shrunk = 0.95 if p.ndim > 1 else 1.0
        assert torch.allclose(p, shrunk * before[name]), name


def test_means_are_over_images(command: Command, tmp_path: Path) -> None:
    # so small a step changes nothing: the epoch's means are those of one network; 250 = 7 × 32 + 26
    flags = ("--model.optimizer.lr", "1e-30", "--trainer.max_epochs", "1")
    assert command("fit", *TINY, *flags).status == 0
    data = CIFAR10DataModule(Shapes(300), batch_size=250, val_size=50)
    data.setup("fit")
    net = Tiny()
    net.load_state_dict(net_weights(tmp_path / RUN))
    log = events(tmp_path / RUN)
    for loader, names in (
        (data.train_dataloader(), "train/{}_epoch"),
        (data.val_dataloader(), "val/{}"),
    ):
        ((images, labels),) = loader
        with torch.no_grad():
            logits = net(images)
        expected = {
            "loss": F.cross_entropy(logits, labels),
            "acc": (logits.argmax(1) == labels).float().mean(),
        }
        for what, value in expected.items():
            (logged,) = log.Scalars(names.format(what))
            assert logged.value == pytest.approx(float(value), rel=1e-6), names.format(what)
