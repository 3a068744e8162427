"""Promise: no checkpoint is lost without a word, and none runs code."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import RUN, SAVE_OFTEN, TINY, one_sentence, succeeded
from program import Command, Several

from cifar_lightning.runs.checkpoint_io import read_checkpoint


def test_disk_full(command: Command, tmp_path: Path) -> None:
    ended = command("fit", *TINY, *SAVE_OFTEN, limit_file_size=10_000)
    assert ended.status == 1
    sentence = one_sentence(ended)
    assert "last.ckpt could not be written (File too large)" in sentence
    assert "final state of the run is lost" in sentence
    assert len([line for line in ended.stdout.splitlines() if line.startswith("epoch")]) == 3
    assert list(tmp_path.glob("lightning_logs/*/checkpoints/*")) == []


def test_folder_that_refuses_writes(command: Command, tmp_path: Path) -> None:
    assert command("fit", *TINY, "--trainer.max_epochs", "1").status == 0
    folder = tmp_path / RUN / "checkpoints"
    before = (folder / "last.ckpt").read_bytes()
    folder.chmod(0o555)
    flags = ("--ckpt_path", "last", "--trainer.max_epochs", "3", *SAVE_OFTEN)
    ended = command("fit", *flags, obeys_permissions=True)
    folder.chmod(0o755)
    assert ended.status == 0, ended
    assert (folder / "last.ckpt").read_bytes() == before
    branch = tmp_path / "lightning_logs/version_1/checkpoints/last.ckpt"
    assert read_checkpoint(branch)["global_step"] == 24


def test_a_later_try_succeeds(command: Command, tmp_path: Path) -> None:
    flags = (
        "--trainer.callbacks", "stand_ins.DiskFull",
        "--trainer.callbacks.first", "3", "--trainer.callbacks.last", "12",
    )  # fmt: skip
    ended = command("fit", *TINY, *SAVE_OFTEN, *flags)
    assert ended.status == 0, ended.stderr
    assert "could not be written" in ended.stderr
    read_checkpoint(tmp_path / RUN / "checkpoints/last.ckpt")


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
        assert one_sentence(ended).startswith(f"{path} {reason}")
    (best,) = run.glob("checkpoints/epoch=*")
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "4")
    assert ended.status == 0, ended.stderr
    assert f"{path.relative_to(tmp_path)} {reason}" in ended.stderr
    assert f"Using {best.relative_to(tmp_path)}" in ended.stderr
    assert read_checkpoint(path)["epoch"] == 4


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
    assert f"{path} holds more than tensors and plain values" in one_sentence(ended)
    assert not touched.exists()


def test_disk_full_for_several_processes(several: Several, tmp_path: Path) -> None:
    flags = ("--trainer.callbacks", "stand_ins.DiskFull", "--trainer.callbacks.first", "4")
    until = ("--trainer.callbacks.last", "12")
    ended = several(2, "fit", *TINY, *flags, *until, *SAVE_OFTEN)
    assert succeeded(ended)
    assert "could not be written" in ended[0].stderr
    last = read_checkpoint(tmp_path / RUN / "checkpoints/last.ckpt")
    assert last["global_step"] == 24
