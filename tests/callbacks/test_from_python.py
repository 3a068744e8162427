"""Callbacks in a trainer that somebody has made in Python."""

import copy
import pickle
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from stand_ins import Tiny

from cifar_lightning import CIFAR10DataModule, ImageClassifier
from cifar_lightning.callbacks import (
    AveragedWeights,
    CallbackList,
    Checkpoints,
    Dashboard,
    EpochLine,
    RunSummary,
    Speed,
)
from cifar_lightning.data import Shapes
from cifar_lightning.errors import UsageError


def trainer(folder: Path, *callbacks: object) -> Trainer:
    return Trainer(
        max_epochs=1, default_root_dir=folder, accelerator="cpu", enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=2, callbacks=list(callbacks),  # type: ignore[arg-type]
    )  # fmt: skip


def images() -> CIFAR10DataModule:
    return CIFAR10DataModule(Shapes(300), batch_size=32, val_size=50)


def test_all_together_and_copies_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = images()
    parts = [
        EpochLine(),
        Speed(),
        RunSummary(),
        *Dashboard(pictures_every_n_epochs=0).callbacks(data),
    ]
    chosen: list[Any] = [CallbackList(parts), AveragedWeights(), Checkpoints()]
    ours = trainer(tmp_path, *chosen)
    ours.fit(ImageClassifier(Tiny()), data)
    assert ours.callback_metrics["speed/images_per_second"] > 0
    printed = capsys.readouterr().out
    assert "its checkpoint" in printed
    assert "python -m" not in printed  # which knows nothing of this network
    for copied in (pickle.loads(pickle.dumps(chosen)), copy.deepcopy(chosen)):
        assert copied[0].parts[1] is not parts[1]
        again = trainer(tmp_path, *copied)
        again.fit(ImageClassifier(Tiny()), images())
        assert again.global_step == 8


def test_checkpoints_in_another_thread_than_the_main_one(tmp_path: Path) -> None:
    ours = trainer(tmp_path, Checkpoints())
    thread = Thread(target=ours.fit, args=(ImageClassifier(Tiny()), images()))
    thread.start()
    thread.join()
    assert ours.global_step == 8
    assert list(tmp_path.rglob("last.ckpt"))


class NoNet(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3072, 10)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

    validation_step = training_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def test_what_a_module_of_somebody_s_lacks(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="NoNet has none"):
        trainer(tmp_path, AveragedWeights()).fit(NoNet(), images())
    data = images()
    with pytest.raises(UsageError, match="NoNet is none"):
        trainer(tmp_path, *Dashboard().callbacks(data)).fit(NoNet(), data)
    ours = trainer(tmp_path, EpochLine(), Speed(), Checkpoints(), RunSummary())
    ours.fit(NoNet(), images())
    assert ours.global_step == 8
