"""``--trainer.precision auto`` and ``--model.memory_format``: chosen once, and kept."""

from pathlib import Path

import pytest
import torch
import yaml
from helpers import RUN, TINY, assert_equal, last_state, outcome
from program import Command
from pytorch_lightning import Trainer

from cifar_lightning import AlexNet, CIFAR10DataModule, ImageClassifier
from cifar_lightning.data import Shapes
from cifar_lightning.models.hardware import computes_in_bf16

ALEXNET = (*TINY, "--model.net", "AlexNet", "--trainer.limit_train_batches", "2",
           "--trainer.max_epochs", "2")  # fmt: skip
HARDWARE_S = "bf16-mixed" if computes_in_bf16("cpu") else "32-true"


def written(run: Path) -> tuple[str, str]:
    config = yaml.safe_load((run / "config.yaml").read_text())
    return config["trainer"]["precision"], config["model"]["memory_format"]


def test_auto_is_resolved_before_it_is_written_down(command: Command, tmp_path: Path) -> None:
    (tmp_path / "fast.yaml").write_text("trainer: {precision: auto}\n")
    ended = command("fit", *ALEXNET, "--config", "fast.yaml", "--trainer.max_epochs", "1")
    assert ended.status == 0, ended.stderr
    assert written(tmp_path / RUN) == (HARDWARE_S, "channels_last")
    assert f"on cpu ({HARDWARE_S}, channels_last)" in ended.stderr


@pytest.mark.parametrize(
    "precision", [pytest.param("32-true", marks=pytest.mark.slow), "bf16-mixed"]
)
def test_auto_means_the_checkpoint_s(command: Command, tmp_path: Path, precision: str) -> None:
    flags = ("--trainer.precision", precision, "--model.memory_format", "contiguous")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    assert command("fit", *ALEXNET, *flags, folder=whole).status == 0
    shorter = ("--trainer.max_epochs", "1")
    assert command("fit", *ALEXNET, *flags, *shorter, folder=cut).status == 0
    auto = ("--trainer.precision", "auto")
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2", *auto, folder=cut)
    assert ended.status == 0, ended.stderr
    assert "precision" not in ended.stderr.replace(f"({precision}, contiguous)", "")
    assert written(cut / RUN) == (precision, "contiguous")
    assert_equal(outcome(cut / RUN), outcome(whole / RUN))
    ended = command("test", *auto, folder=cut)
    assert ended.status == 0, ended.stderr


def test_the_order_in_memory_shows(command: Command, tmp_path: Path) -> None:
    for number, order in enumerate(("contiguous", "channels_last")):
        flags = ("--model.memory_format", order, "--trainer.max_epochs", "1")
        assert command("fit", *ALEXNET, *flags).status == 0
        weights = last_state(tmp_path / f"lightning_logs/version_{number}")["state_dict"]
        convolution = weights["net.features.3.weight"]
        assert convolution.is_contiguous() is (order == "contiguous")
        assert convolution.is_contiguous(memory_format=torch.channels_last) is (number == 1)


def test_networks_may_view_maps_as_rows(command: Command, tmp_path: Path) -> None:
    assert command("fit", *TINY, "--model.net", "stand_ins.Viewing").status == 0
    assert written(tmp_path / RUN)[1] == "contiguous"
    for evaluation in ("validate", "test", "predict"):
        ended = command(evaluation)
        assert ended.status == 0, ended.stderr


def test_from_python_a_checkpoint_keeps_it(tmp_path: Path) -> None:
    data = CIFAR10DataModule(Shapes(100), val_size=20)
    made = ImageClassifier(AlexNet(), memory_format="contiguous")

    def trainer(epochs: int) -> Trainer:
        return Trainer(
            max_epochs=epochs, accelerator="cpu", limit_train_batches=1, limit_val_batches=0,
            logger=False, enable_progress_bar=False, default_root_dir=tmp_path,
        )  # fmt: skip

    first = trainer(1)
    first.fit(made, data)
    path = tmp_path / "made.ckpt"
    first.save_checkpoint(path)
    loaded = ImageClassifier.load_from_checkpoint(path, net=AlexNet())
    assert loaded.computing.memory_format == "contiguous"
    goes_on = ImageClassifier(net := AlexNet())
    trainer(2).fit(goes_on, data, ckpt_path=path)
    assert goes_on.computing.memory_format == "contiguous"
    assert next(net.features[3].parameters()).is_contiguous()
