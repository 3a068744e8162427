"""Promise: no checkpoint is lost without a word, and none runs code."""

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Command
from filelock import FileLock
from PIL import Image
from test_exact_resume import assert_equal, outcome

from cifar_lightning.runs.checkpoint_io import DurableCheckpointIO, read_checkpoint

SAVE_OFTEN = ("--checkpoints.every_seconds", "0")


@pytest.fixture
def run(command: Command, tmp_path: Path) -> Path:
    """A finished run of three epochs."""
    assert command("fit", *TINY).status == 0
    return tmp_path / "lightning_logs/version_0"


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
    last = tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt"
    expected = command("test", "--ckpt_path", str(last)).stdout
    content = torch.load(last, weights_only=True)
    content["cifar_lightning"]["format"] = 1
    state = content["state_dict"]
    for name in [name for name in state if not name.startswith("net.")]:
        state[f"{name}_of_old"] = state.pop(name)
    torch.save(content, last)
    assert command("test", "--ckpt_path", str(last)).stdout == expected
    ended = command("fit", "--ckpt_path", str(last), "--trainer.max_epochs", "2")
    assert (ended.status, "it can be tested" in ended.stderr) == (1, True)


def test_disk_full(command: Command, tmp_path: Path) -> None:
    ended = command("fit", *TINY, *SAVE_OFTEN, limit_file_size=10_000)
    assert ended.status == 1
    assert "Traceback" not in ended.stderr
    assert "last.ckpt could not be written (File too large)" in ended.stderr
    assert "final state of the run is lost" in ended.stderr
    assert len([line for line in ended.stdout.splitlines() if line.startswith("epoch")]) == 3
    assert list(tmp_path.glob("lightning_logs/*/checkpoints/*")) == []


def test_folder_that_refuses_writes(command: Command, tmp_path: Path) -> None:
    assert command("fit", *TINY, "--trainer.max_epochs", "1").status == 0
    folder = tmp_path / "lightning_logs/version_0/checkpoints"
    before = (folder / "last.ckpt").read_bytes()
    folder.chmod(0o555)
    flags = ("--ckpt_path", "last", "--trainer.max_epochs", "3", *SAVE_OFTEN)
    ended = command("fit", *flags, obeys_permissions=True)
    folder.chmod(0o755)
    assert ended.status == 1, ended
    assert "last.ckpt could not be written (Permission denied)" in ended.stderr
    assert (folder / "last.ckpt").read_bytes() == before


def test_a_later_try_succeeds(command: Command, tmp_path: Path) -> None:
    flags = (
        "--trainer.callbacks", "stand_ins.DiskFull",
        "--trainer.callbacks.first", "3", "--trainer.callbacks.last", "12",
    )  # fmt: skip
    ended = command("fit", *TINY, *SAVE_OFTEN, *flags)
    assert ended.status == 0, ended.stderr
    assert "could not be written" in ended.stderr
    read_checkpoint(tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt")


def damaged(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


class RunsCode:
    """A pickle of it makes whoever reads it create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


Spoil = Callable[[bytes], bytes]
UNUSABLE: dict[str, tuple[Spoil, str]] = {
    "cut off": (lambda content: content[:-1000], "is cut off or damaged"),
    "damaged": (damaged, "is damaged"),
    "empty": (lambda content: b"", "is not a checkpoint"),
    "foreign": (lambda content: b"\x89PNG and so on", "is not a checkpoint"),
}


@pytest.mark.parametrize("fault", UNUSABLE)
def test_unusable_checkpoint_is_named(
    fault: str, command: Command, run: Path, tmp_path: Path
) -> None:
    spoil, reason = UNUSABLE[fault]
    path = run / "checkpoints/last.ckpt"
    path.write_bytes(spoil(path.read_bytes()))
    for name in ("fit", "test", "validate", "predict"):
        ended = command(name, "--ckpt_path", str(path))
        assert ended.status == 1
        assert ended.stderr.startswith(f"cifar_lightning: {path} {reason}"), ended.stderr
        assert len(ended.stderr.splitlines()) == 1
    (best,) = run.glob("checkpoints/epoch=*")
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "4")
    assert ended.status == 0, ended.stderr
    assert f"{path.relative_to(tmp_path)} {reason}" in ended.stderr
    assert f"Using {best.relative_to(tmp_path)}" in ended.stderr
    assert read_checkpoint(path)["epoch"] == 4


def test_other_peoples_checkpoints(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "some.ckpt"
    torch.save({"weights": torch.zeros(2)}, path)
    ended = command("test", "--ckpt_path", str(path))
    assert (ended.status, "not a checkpoint of a PyTorch Lightning run" in ended.stderr) == (
        1,
        True,
    )
    for ours in ({}, {"cifar_lightning": {"format": 0}}):
        torch.save({"state_dict": {}, "loops": {}, **ours}, path)
        ended = command("fit", "--ckpt_path", str(path))
        assert ended.status == 1
        assert "was not written by this version of cifar_lightning" in ended.stderr


@pytest.mark.parametrize("name", ["fit", "test", "validate", "predict"])
def test_code_in_a_checkpoint_does_not_run(name: str, command: Command, run: Path) -> None:
    touched = run / "touched"
    path = run / "checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    torch.save({**content, "hyper_parameters": RunsCode(touched)}, path)
    with zipfile.ZipFile(path) as archive:
        assert any(b"system" in archive.read(n) for n in archive.namelist() if n.endswith("pkl"))
    ended = command(name, "--ckpt_path", str(path))
    assert ended.status == 1
    assert f"{path} holds more than tensors and plain values" in ended.stderr
    assert not touched.exists()


def test_resume_of_a_finished_run(command: Command, run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    ended = command("fit", "--ckpt_path", "last")
    assert (ended.status, "this run is finished" in ended.stderr) == (0, True)
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_no_run_to_resume(command: Command, tmp_path: Path) -> None:
    for name in ("fit", "test"):
        ended = command(name, "--ckpt_path", "last")
        assert ended.status == 1
        assert "no run under lightning_logs has a checkpoint" in ended.stderr
    assert not (tmp_path / "lightning_logs").exists()


PAST = [
    ("--seed_everything", "7"),
    ("--data.batch_size", "16"),
    ("--data.source.size", "500"),
    ("--data.val_size", "100"),
    ("--data.translate", "2"),
    ("--model.label_smoothing", "0.1"),
    ("--model.net", "AlexNet"),
    ("--trainer.limit_train_batches", "2"),
]


@pytest.mark.parametrize("flag", PAST, ids=lambda flag: flag[0])
def test_the_past_cannot_be_changed(flag: tuple[str, str], command: Command, run: Path) -> None:
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "4", *flag)
    assert ended.status == 2
    assert ended.stderr.startswith(f"cifar_lightning: {flag[0]}"), ended.stderr
    assert "would change what this run has already trained with" in ended.stderr


def test_other_images_are_noticed(command: Command, tmp_path: Path) -> None:
    for split, count in (("train", 30), ("test", 5)):
        for shade, name in enumerate(("dark", "light")):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (32, 32), (number, 200 * shade, 7))
                image.save(tmp_path / split / name / f"{number}.png")
    flags = ("--data.source", "ImageFolder", "--data.source.root", ".", "--data.val_size", "10")
    assert command("fit", *TINY, *flags, "--trainer.max_epochs", "1").status == 0
    Image.new("RGB", (32, 32), (9, 9, 9)).save(tmp_path / "train/dark/3.png")
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2")
    assert ended.status == 1
    assert "The training images are not those that" in ended.stderr


def test_a_run_is_trained_by_one_process(command: Command, run: Path) -> None:
    with FileLock(run / ".lock"):
        ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "4")
    assert ended.status == 1
    assert "another process is training this run" in ended.stderr


def test_command_line_wins_over_checkpoint_over_config(
    command: Command, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.yaml").write_text("trainer: {max_epochs: 9, log_every_n_steps: 1}")
    before = (run / "config.yaml").read_bytes()
    flags = ("--trainer.max_epochs", "4", "--model.optimizer.lr", "0.125")
    ended = command("fit", "--ckpt_path", "last", "--config", "other.yaml", *flags)
    assert ended.status == 0, ended.stderr
    assert "--trainer.max_epochs: 4, was 3" in ended.stderr
    assert "--model.optimizer.lr: 0.125, was 0.01" in ended.stderr
    assert "--trainer.log_every_n_steps: 3 as in the checkpoint, not 1" in ended.stderr
    assert (run / "config.yaml").read_bytes() == before
    assert "max_epochs: 4" in (run / "config-resume-1.yaml").read_text()
    last = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert last["optimizer_states"][0]["param_groups"][0]["lr"] == 0.125


def test_an_older_checkpoint_branches_off(command: Command, tmp_path: Path) -> None:
    run, branch = (tmp_path / f"lightning_logs/version_{n}" for n in (0, 1))
    assert command("fit", *TINY, "--trainer.max_epochs", "1").status == 0
    kept = run / "checkpoints/kept.ckpt"
    shutil.copy(run / "checkpoints/last.ckpt", kept)
    more = ("--trainer.max_epochs", "3")
    assert command("fit", "--ckpt_path", "last", *more).status == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    ended = command("fit", "--ckpt_path", str(kept), *more)
    assert ended.status == 0, ended.stderr
    assert "this run branches off" in ended.stderr
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert_equal(outcome(branch), outcome(run))
