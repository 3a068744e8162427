"""The commands, as a person types them."""

import csv
import json
import os
import pty
import re
import subprocess
import sys
import termios
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY, Command

from cifar_lightning import AlexNet, CIFAR10DataModule, ImageClassifier
from cifar_lightning.data import Shapes


def test_fit_leaves_a_run(command: Command, tmp_path: Path) -> None:
    ended = command("fit", *TINY)
    assert ended.status == 0, ended.stderr
    run = tmp_path / "lightning_logs/version_0"
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["seed_everything"] == 42
    assert config["data"]["val_size"] == 50
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = {"train/loss", "train/acc", "val/loss", "val/acc", "lr-SGD", "speed/images_per_second"}
    assert names <= rows[0].keys()
    steps = [int(row["step"]) for row in rows if row["train/loss"]]
    assert steps == [2, 5, 8, 11, 14, 17, 20, 23]
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["epochs"], summary["global_step"]) == (3, 24)
    best = summary["best"]
    scores = [float(row["val/acc"]) for row in rows if row["val/acc"]]
    assert best["score"] == pytest.approx(max(scores))
    assert best["epoch"] == scores.index(max(scores))
    assert (run / best["checkpoint"]).exists()
    assert (run / "checkpoints/last.ckpt").exists()
    assert f"best           epoch {best['epoch'] + 1}" in ended.stdout
    assert len([line for line in ended.stdout.splitlines() if line.startswith("epoch")]) == 3
    assert "\r" not in ended.stdout + ended.stderr  # no terminal, no bar


def test_an_epoch_without_validation_shows_none(command: Command) -> None:
    ended = command("fit", *TINY, "--trainer.check_val_every_n_epoch", "2")
    lines = [line for line in ended.stdout.splitlines() if line.startswith("epoch")]
    assert ["val loss" in line for line in lines] == [False, True, False]
    assert "(earlier, held-out training images)" in ended.stdout


def shown(name: str, table: str) -> float:
    found = re.search(rf"{name} +│ +([\d.]+)", table)
    assert found, table
    return float(found[1])


def test_evaluation_takes_everything_from_the_checkpoint(command: Command, tmp_path: Path) -> None:
    assert command("fit", *TINY).status == 0
    run = tmp_path / "lightning_logs/version_0"
    summary = json.loads((run / "summary.json").read_text())
    for arguments in (["validate"], ["validate", "--ckpt_path", "best"]):
        ended = command(*arguments)
        assert ended.status == 0, ended.stderr
        assert shown("val/acc", ended.stdout) == pytest.approx(summary["best"]["score"])
    last = command("validate", "--ckpt_path", "last")
    assert shown("val/loss", last.stdout) == pytest.approx(summary["metrics"]["val/loss"])
    assert (
        "test accuracy" in command("test", "--ckpt_path", str(run / "checkpoints/last.ckpt")).stdout
    )
    assert command("predict").status == 0
    with (run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 50
    right = sum(row["truth"] == row["prediction"] for row in rows)
    assert right / 50 == pytest.approx(summary["best"]["score"])
    assert sum(float(rows[0][name]) for name in Shapes().class_names) == pytest.approx(1, abs=1e-4)


def test_overlays_and_flags(command: Command, tmp_path: Path) -> None:
    one = {"data": {"batch_size": 50}, "trainer": {"max_epochs": 1}}
    two = {"data": {"batch_size": 25}}
    for name, content in (("one", one), ("two", two)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    flags = [
        "--model.net",
        "stand_ins.Tiny",
        "--data.source",
        "Shapes",
        "--data.source.size",
        "100",
    ]
    flags += ["--data.val_size", "50", "--model.optimizer.lr", "0.5", "--seed_everything", "7"]
    ended = command("fit", "--config", "one.yaml", "--config", "two.yaml", *flags)
    assert ended.status == 0, ended.stderr
    config = yaml.safe_load((tmp_path / "lightning_logs/version_0/config.yaml").read_text())
    assert config["data"]["batch_size"] == 25
    assert config["trainer"]["max_epochs"] == 1
    assert config["model"]["optimizer"]["init_args"]["lr"] == 0.5
    assert config["model"]["optimizer"]["init_args"]["momentum"] == 0.9
    assert config["seed_everything"] == 7


def test_a_terminal_has_a_bar(command: Command) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, 200))
    shown = bytearray()

    def watch() -> None:
        with suppress(OSError):  # the other side is closed
            while part := os.read(ours, 4096):
                shown.extend(part)

    reader = threading.Thread(target=watch)
    reader.start()
    flags = ("--trainer.accumulate_grad_batches", "2", "--trainer.log_every_n_steps", "2")
    ended = command("fit", *TINY, *flags, terminal=os.ttyname(theirs))
    os.close(theirs)
    reader.join()
    os.close(ours)
    assert ended.status == 0, ended.stderr
    text = shown.decode()
    for part in ("Epoch 2: 100%", "loss=", "acc=", "img/s=", "run=0:00:", " left", "val/acc="):
        assert part in text
    lines = [line for line in text.replace("\r", "\n").splitlines() if "epoch   1/3" in line]
    assert len(lines) == 1


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "bf16-mixed"])
def test_precisions(precision: str, command: Command) -> None:
    flags = ("--trainer.precision", precision)
    assert command("fit", *TINY, *flags).status == 0
    ended = command("fit", "--ckpt_path", "last", *flags, "--trainer.max_epochs", "4")
    assert ended.status == 0, ended.stderr
    assert command("test", *flags).status == 0


def test_same_seed_same_run(command: Command, tmp_path: Path) -> None:
    def weights(*arguments: str) -> dict[str, torch.Tensor]:
        assert command("fit", *TINY, "--trainer.max_epochs", "1", *arguments).status == 0
        newest = max(tmp_path.glob("lightning_logs/*/checkpoints/last.ckpt"))
        state: dict[str, torch.Tensor] = torch.load(newest, weights_only=True)["state_dict"]
        return state

    first, second, other = weights(), weights(), weights("--seed_everything", "1")
    name = "net.layers.2.weight"
    assert torch.equal(first[name], second[name])
    assert not torch.equal(first[name], other[name])


def test_module_and_script_are_one_program() -> None:
    script = Path(sys.executable).with_name("cifar-lightning")
    texts = [
        subprocess.run(
            [*program, "fit", "--help"], capture_output=True, text=True, check=True
        ).stdout
        for program in ([sys.executable, "-m", "cifar_lightning"], [str(script)])
    ]
    assert texts[0] == texts[1]
    assert "--data.batch_size" in texts[0]


def test_load_from_checkpoint(command: Command, tmp_path: Path) -> None:
    ended = command("fit", *TINY, "--model.net", "AlexNet", "--trainer.max_epochs", "1")
    assert ended.status == 0, ended.stderr
    path = tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt"
    classifier = ImageClassifier.load_from_checkpoint(path)
    assert isinstance(classifier.net, AlexNet)
    weights = torch.load(path, weights_only=True)["state_dict"]["net.features.0.weight"]
    assert torch.equal(next(classifier.net.parameters()), weights)


def test_python_interface(tmp_path: Path) -> None:
    from pytorch_lightning import Trainer

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
