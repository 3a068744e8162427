"""Promise: what an earlier version has written can be gone on with, tested and compared.

``stored/interrupted`` was written by the commit before the package got its rooms, and stopped by
SIGTERM in the middle of its second epoch; ``stored/finished`` is the same run, uninterrupted.
"""

import shutil
from pathlib import Path

import pytest
import torch
from helpers import last_state, logged, rows
from program import Command

STORED = Path(__file__).parent / "stored"
NO_SIGNAL = ("--trainer.callbacks", "null")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of the interrupted run, where a command finds it."""
    folder = tmp_path / "lightning_logs/version_0"
    shutil.copytree(STORED / "interrupted", folder)
    return folder


def test_goes_on_as_it_would_have(command: Command, run: Path) -> None:
    ended = command("fit", "--ckpt_path", "last", *NO_SIGNAL)
    assert ended.status == 0, ended.stderr
    finished = STORED / "finished"
    ours, theirs = (rows(folder / "metrics.csv") for folder in (run, finished))
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    assert ours[0].keys() == theirs[0].keys()
    for column in ("train/loss", "train/acc", "train/loss_epoch", "val/loss", "val/acc", "lr-SGD"):
        # another CPU may add in another order
        assert logged(run, column) == pytest.approx(logged(finished, column), abs=1e-4), column
    end = last_state(run)["state_dict"]
    for name, weight in last_state(finished)["state_dict"].items():
        if name.startswith("net."):
            assert torch.allclose(end[name], weight, atol=1e-4), name


def test_is_tested_and_compared(command: Command, run: Path, tmp_path: Path) -> None:
    ended = command("test", "--ckpt_path", "best")
    assert ended.status == 0, ended.stderr
    assert (run / "test_report.json").exists()
    shutil.copytree(STORED / "finished", tmp_path / "lightning_logs/version_1")
    ended = command("compare")
    assert ended.status == 0, ended.stderr
    assert ended.stderr == ""
    table = {line.split()[0]: line for line in ended.stdout.splitlines() if "version_" in line}
    assert "(interrupted)" in table["version_0"]
    assert "13.33 %" in table["version_1"]  # its test report


def test_its_config_is_an_overlay(command: Command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes((STORED / "finished/config.yaml").read_bytes())
    ended = command("fit", "--config", "config.yaml")
    assert ended.status == 0, ended.stderr
    again, before = tmp_path / "lightning_logs/version_1", STORED / "finished"
    for column in ("train/loss", "val/loss"):
        assert logged(again, column) == pytest.approx(logged(before, column), abs=1e-4)
