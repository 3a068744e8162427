"""The average of the weights: what it is, that it is what is evaluated, and that it resumes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import RUN, TINY, assert_equal, last_state, logged, outcome, signal_at
from program import Command
from pytorch_lightning import Callback, LightningModule, Trainer
from stand_ins import Tiny

from cifar_lightning import CIFAR10DataModule, ImageClassifier
from cifar_lightning.callbacks import AveragedWeights
from cifar_lightning.data import Shapes

AVERAGED = (
    "--trainer.callbacks", "cifar_lightning.callbacks.AveragedWeights",
    "--trainer.callbacks.decay", "0.9",
)  # fmt: skip


class Record(Callback):
    def __init__(self) -> None:
        self.weights: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.weights.append(next(pl_module.parameters()).detach().clone())


def test_against_a_loop(tmp_path: Path) -> None:
    record = Record()
    trainer = Trainer(
        max_epochs=2, callbacks=[AveragedWeights(0.9), record], logger=False, accelerator="cpu",
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path,
    )  # fmt: skip
    model = ImageClassifier(Tiny())
    trainer.fit(model, CIFAR10DataModule(Shapes(300), batch_size=32, val_size=50))
    average = record.weights[0]
    for weight in record.weights[1:]:
        average = 0.9 * average + 0.1 * weight
    assert len(record.weights) == 16
    assert torch.allclose(next(model.parameters()), average, atol=1e-6)
    assert not torch.allclose(record.weights[-1], average, atol=1e-3)


def test_what_is_kept_is_what_was_validated(command: Command, tmp_path: Path) -> None:
    ended = command("fit", *TINY, *AVERAGED)
    assert ended.status == 0, ended.stderr
    validated = logged(tmp_path / RUN, "val/loss")
    last = command("validate", "--ckpt_path", "last")
    assert last.status == 0, last.stderr
    shown = float(last.stdout.split("val/loss")[1].split()[1])
    assert shown == pytest.approx(validated[-1], abs=1e-6)


def test_resumes_to_the_bit(command: Command, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    assert command("fit", *TINY, *AVERAGED, folder=whole).status == 0
    append, *at = signal_at("on_train_batch_end", "SIGTERM", 11)
    assert command("fit", *TINY, *AVERAGED, f"{append}+", *at, folder=parts).status == 143
    ended = command("fit", "--ckpt_path", "last", *AVERAGED, folder=parts)
    assert ended.status == 0, ended.stderr
    runs = [folder / RUN for folder in (whole, parts)]
    ours, theirs = map(last_state, runs)
    assert_equal(ours["trained_weights"], theirs["trained_weights"])
    assert_equal(outcome(runs[0]), outcome(runs[1]))
