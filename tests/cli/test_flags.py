"""Flags and overlays, and what they make of a run."""

from pathlib import Path

import pytest
import yaml
from helpers import RUN, TINY
from program import Command


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
    config = yaml.safe_load((tmp_path / RUN / "config.yaml").read_text())
    assert config["data"]["batch_size"] == 25
    assert config["trainer"]["max_epochs"] == 1
    assert config["model"]["optimizer"]["init_args"]["lr"] == 0.5
    assert config["model"]["optimizer"]["init_args"]["momentum"] == 0.9
    assert config["seed_everything"] == 7


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "bf16-mixed"])
def test_precisions(precision: str, command: Command) -> None:
    flags = ("--trainer.precision", precision)
    assert command("fit", *TINY, *flags).status == 0
    ended = command("fit", "--ckpt_path", "last", *flags, "--trainer.max_epochs", "4")
    assert ended.status == 0, ended.stderr
    assert command("test", *flags).status == 0
