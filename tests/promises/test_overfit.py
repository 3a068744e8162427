"""``--trainer.overfit_batches``: the same batches in every epoch, learned by heart."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SAVE_OFTEN, TINY, assert_equal, one_sentence, only_run, outcome, signal_at
from program import Command
from pytorch_lightning import Callback, LightningModule, Trainer
from stand_ins import Tiny
from torch.optim import SGD

from cifar_lightning import CIFAR10DataModule, ImageClassifier
from cifar_lightning.data import Shapes


class Seen(Callback):
    def __init__(self) -> None:
        self.labels: list[torch.Tensor] = []
        self.validated: list[int] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: tuple[torch.Tensor, ...], _: int
    ) -> None:
        self.labels.append(batch[1])

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        self.validated.append(batch_idx)


def test_learns_the_same_batches_by_heart(tmp_path: Path) -> None:
    seen = Seen()
    trainer = Trainer(
        max_epochs=60, overfit_batches=2, callbacks=seen, logger=False, accelerator="cpu",
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, default_root_dir=tmp_path,
    )  # fmt: skip
    model = ImageClassifier(Tiny(), lambda params: SGD(params, lr=0.1, momentum=0.9))
    trainer.fit(model, CIFAR10DataModule(Shapes(500), batch_size=32, val_size=100))
    assert len(seen.labels) == 120
    assert all(torch.equal(one, seen.labels[i % 2]) for i, one in enumerate(seen.labels))
    assert not torch.equal(seen.labels[0], seen.labels[1])
    assert len(seen.labels[0].unique()) > 5  # not those that lie first on the disk
    assert seen.validated == [0, 1] * 60
    assert trainer.callback_metrics["train/acc_epoch"] > 0.95


def test_exact_on_resume(command: Command, tmp_path: Path) -> None:
    asked = (*TINY, "--data.flip", "true", "--trainer.overfit_batches", "3")
    ends = []
    for name in ("whole", "parts"):
        folder = tmp_path / name
        folder.mkdir()
        start: tuple[str, ...] = asked
        if name == "parts":
            at = signal_at("on_before_optimizer_step", "SIGKILL", 4)
            assert command("fit", *asked, *at, *SAVE_OFTEN, folder=folder).status == -9
            start = ("--ckpt_path", "last", "--trainer.callbacks", "null")
        ended = command("fit", *start, folder=folder)
        assert ended.status == 0, ended
        ends.append(outcome(only_run(folder)))
    assert ends[0]["global_step"] == 9
    assert_equal(ends[1], ends[0])


@pytest.mark.parametrize("name", ["limit_train_batches", "limit_val_batches"])
def test_does_not_overrule_a_limit_without_a_word(name: str, command: Command) -> None:
    ended = command("fit", *TINY, "--trainer.overfit_batches", "1", f"--trainer.{name}", "2")
    assert ended.status == 2
    assert f"--trainer.{name} 2: --trainer.overfit_batches 1" in one_sentence(ended)
