"""Classifier and data module in a script of one's own: what goes, and what mistakes are told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import (
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
    TQDMProgressBar,
)
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.tuner import Tuner
from stand_ins import Tiny
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD

from cifar_lightning import AlexNet, CIFAR10DataModule, ImageClassifier
from cifar_lightning.data import Shapes


def data(**how: Any) -> CIFAR10DataModule:
    return CIFAR10DataModule(**{"source": Shapes(100), "val_size": 20, "batch_size": 32, **how})


def trainer(folder: Path, **how: Any) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    fixed = {"accelerator": "cpu", "enable_model_summary": False, "log_every_n_steps": 1}
    return Trainer(**{"default_root_dir": folder, "max_epochs": 2, **quiet, **fixed, **how})


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "class": (lambda: ImageClassifier(AlexNet), "net is the class AlexNet: give one, AlexNet()"),  # type: ignore[arg-type]
    "no net": (lambda: ImageClassifier(None), "net is NoneType, but must be an nn.Module"),  # type: ignore[arg-type]
    "loss": (
        lambda: ImageClassifier(Tiny(), loss=F.cross_entropy),  # type: ignore[arg-type]
        "loss is cross_entropy, but must be an nn.Module",
    ),
    "loss's class": (
        lambda: ImageClassifier(Tiny(), loss=nn.CrossEntropyLoss),  # type: ignore[arg-type]
        "loss is the class CrossEntropyLoss: give one, CrossEntropyLoss()",
    ),
    "optimizer": (
        lambda: ImageClassifier(Tiny(), optimizer=SGD(Tiny().parameters())),  # type: ignore[arg-type]
        "optimizer is of type SGD, but must make one from the parameters of the network: "
        "lambda parameters: SGD(parameters, lr=0.01)",
    ),
    "order": (
        lambda: ImageClassifier(Tiny(), memory_format="NHWC"),  # type: ignore[arg-type]
        "memory_format 'NHWC' must be one of auto, channels_last, contiguous",
    ),
    "start": (
        lambda: ImageClassifier(Tiny(), initialisation="xavier"),  # type: ignore[arg-type]
        "initialisation 'xavier' must be one of default, kaiming",
    ),
    "classes": (
        lambda: ImageClassifier(Tiny(), num_classes=0),
        "num_classes 0 must be a number of classes, at least 1",
    ),
    "batch": (lambda: data(batch_size="64"), "data.batch_size '64' must be a whole number"),
    "half": (lambda: data(batch_size=6.5), "data.batch_size 6.5 must be a whole number"),
    "seed": (lambda: data(seed=None), "data.seed None must be a whole number"),
    "mean": (lambda: data(mean=0.5), "data.mean 0.5 and data.std (0.5, 0.5, 0.5) must be three"),
    "source": (lambda: data(source="pictures"), "data.source is a str, but must be a Source"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_when_they_are_made(mistake: str) -> None:
    make, said = MISTAKES[mistake]
    with pytest.raises((TypeError, ValueError)) as raised:
        make()
    assert str(raised.value).startswith(said)


def test_a_trainer_with_parts_of_one_s_own(tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path / "kept", monitor="val/acc", mode="max", save_last=True)
    callbacks = [best, EarlyStopping("val/loss", patience=5), LearningRateMonitor()]
    loggers = [CSVLogger(tmp_path), TensorBoardLogger(tmp_path)]
    parts = {"callbacks": callbacks, "logger": loggers, "enable_checkpointing": True}
    whole = ImageClassifier(Tiny())
    start = {name: weight.clone() for name, weight in whole.state_dict().items()}
    trainer(tmp_path, **parts).fit(whole, data())
    assert Path(best.best_model_path).exists()
    assert "lr-SGD" in (tmp_path / "lightning_logs/version_0/metrics.csv").read_text()
    half = ImageClassifier(Tiny())
    half.load_state_dict(start)
    kept = ModelCheckpoint(tmp_path / "half", save_last=True)
    trainer(tmp_path, max_epochs=1, callbacks=[kept], enable_checkpointing=True).fit(half, data())
    rest = ImageClassifier(Tiny())
    trainer(tmp_path).fit(rest, data(), ckpt_path=kept.last_model_path)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, rest.state_dict()[name]), name


@pytest.mark.parametrize("bar", [RichProgressBar, TQDMProgressBar])
def test_bars(bar: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = trainer(tmp_path, callbacks=[bar()], enable_progress_bar=True)
    shown.fit(ImageClassifier(Tiny()), data())
    printed = "".join(capsys.readouterr())
    assert "val/acc" in printed
    assert "Traceback" not in printed


def test_lr_find_and_scale_batch_size(tmp_path: Path) -> None:
    model = ImageClassifier(Tiny(), optimizer=lambda params: SGD(params, lr=7.0))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    found = Tuner(trainer(tmp_path)).lr_find(
        model, datamodule=data(source=Shapes(500), batch_size=8), num_training=60
    )
    assert found is not None
    assert model.lr == found.suggestion()
    assert [group["lr"] for group in model.configure_optimizers().param_groups] == [model.lr] * 2
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]), name
    module = data()
    Tuner(trainer(tmp_path)).scale_batch_size(
        model, datamodule=module, max_trials=2, steps_per_trial=1, init_val=8
    )
    assert module.batch_size > 8
