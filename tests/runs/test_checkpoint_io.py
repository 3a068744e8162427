"""Checkpoints as files: written whole or not at all, and whose they are."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import RUN, TINY, one_sentence
from program import Command

from cifar_lightning.runs.checkpoint_io import DurableCheckpointIO, read_checkpoint


def test_a_refused_write_leaves_the_old_file(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "last.ckpt"
    io = DurableCheckpointIO()
    io.save_checkpoint({"state_dict": {}, "loops": {}, "n": 1}, path)
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        io.save_checkpoint({"state_dict": {}, "loops": {}, "n": 2}, path)
    assert read_checkpoint(path)["n"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_checkpoint_with_other_sums_can_be_tested(command: Command, tmp_path: Path) -> None:
    assert command("fit", *TINY, "--trainer.max_epochs", "1").status == 0
    last = tmp_path / RUN / "checkpoints/last.ckpt"
    expected = command("test", "--ckpt_path", str(last))
    assert expected.status == 0, expected.stderr
    content = torch.load(last, weights_only=True)
    content["cifar_lightning"]["format"] = 1
    state = content["state_dict"]
    for name in [name for name in state if not name.startswith("net.")]:
        state[f"{name}_of_old"] = state.pop(name)
    torch.save(content, last)
    assert command("test", "--ckpt_path", str(last)) == expected
    ended = command("fit", "--ckpt_path", str(last), "--trainer.max_epochs", "2")
    assert ended.status == 1
    assert "it can be tested" in one_sentence(ended)


def test_other_peoples_checkpoints(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "some.ckpt"
    torch.save({"weights": torch.zeros(2)}, path)
    ended = command("test", "--ckpt_path", str(path))
    assert ended.status == 1
    assert "not a checkpoint of a PyTorch Lightning run" in one_sentence(ended)
    for ours in ({}, {"cifar_lightning": {"format": 0}}):
        torch.save({"state_dict": {}, "loops": {}, **ours}, path)
        ended = command("fit", "--ckpt_path", str(path))
        assert ended.status == 1
        assert "was not written by this version of cifar_lightning" in one_sentence(ended)
