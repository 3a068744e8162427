"""What Windows and macOS refuse or order otherwise, pretended."""

import ast
import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path, PurePath
from typing import Any

import pytest
import torch
from program import PROJECT, PYTHONPATH

from cifar_lightning.data import ImageFolder
from cifar_lightning.errors import UserError
from cifar_lightning.runs.checkpoint_io import DurableCheckpointIO
from cifar_lightning.runs.files import flush, write_json, write_text
from cifar_lightning.runs.loggers import RunTensorBoardLogger, event_files, write_test_metrics


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder can be opened, and what was opened to be read cannot be flushed."""
    really_open, really_flush = os.open, os.fsync

    def open_(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return really_open(path, flags, *more, **named)

    def fsync(descriptor: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        really_flush(descriptor)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.usefixtures("windows")
def test_files_are_saved_where_folders_cannot_be_flushed(tmp_path: Path) -> None:
    write_json(tmp_path / "summary.json", {"epochs": 3})
    DurableCheckpointIO().save_checkpoint({"a": torch.ones(2)}, tmp_path / "checkpoints/last.ckpt")
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["last.ckpt", "summary.json"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_folder_that_is_flushed_badly(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network drive that flushes no folders is no failure; a disk that fails is one."""

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):  # noqa: PTH112
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    if number == errno.EINVAL:
        flush(tmp_path)
    else:
        with pytest.raises(UserError, match="Input/output error"):
            write_text(tmp_path / "a.txt", "")


def test_what_is_written_is_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "classes.csv", "naïve,雪\r\n")
    assert (tmp_path / "classes.csv").read_bytes() == "naïve,雪\r\n".encode()


@pytest.fixture
def tensorboard_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of events can be neither removed nor made shorter."""

    def refuse(path: Any, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "The process cannot access the file", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(os, "truncate", refuse)


def test_events_that_are_held_open(
    tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    logger = RunTensorBoardLogger(tmp_path / "version_0")
    logger.log_metrics({"a": 1.0}, 0)
    position = logger.position()
    logger.log_metrics({"a": 2.0}, 1)
    logger.finalize("success")
    write_test_metrics(tmp_path / "version_0", {"test/acc": 0.5}, 1)
    request.getfixturevalue("tensorboard_reads")
    for before in (position, {}):
        with pytest.raises(UserError, match="cannot access the file"):
            RunTensorBoardLogger(tmp_path / "version_0").rewind(before)
    assert len(event_files(tmp_path / "version_0")) == 1
    write_test_metrics(tmp_path / "version_0", {"test/acc": 0.6}, 1)
    assert "stays beside the newer one" in caplog.text


def test_classes_are_in_one_order_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("Zebra", "apple", "Éclair", "Bee")
    for name in names:
        (tmp_path / "train" / name).mkdir(parents=True)

    def as_on_windows(self: PurePath, other: PurePath) -> bool:
        return str(self).lower() < str(other).lower()

    monkeypatch.setattr(PurePath, "__lt__", as_on_windows)
    assert ImageFolder(tmp_path).class_names == tuple(sorted(names))


MISSING = {
    "resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline", "curses",
    "os.fork", "os.forkpty", "os.geteuid", "os.getuid", "os.setsid", "os.killpg", "os.getpgid",
    "os.uname", "os.getloadavg", "os.sysconf", "os.mkfifo", "os.sched_getaffinity", "os.sync",
    "os.statvfs", "os.nice", "os.chown", "os.fchmod", "os.posix_fallocate", "os.wait",
    "signal.SIGKILL", "signal.SIGHUP", "signal.SIGUSR1", "signal.SIGUSR2", "signal.SIGALRM",
    "signal.alarm", "signal.pause", "signal.setitimer", "signal.SIGQUIT", "signal.SIGCHLD",
    "time.tzset",
}  # fmt: skip
"""Modules and names that Python has on Unix alone."""


def names_in(path: Path) -> set[str]:
    """The modules that a file imports, and ``a.b`` for each name of a module that it takes."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
    return found


def test_the_package_takes_nothing_that_windows_lacks() -> None:
    assert names_in(Path(__file__)) & MISSING == {"fcntl"}  # that it would be found
    for path in (PROJECT / "cifar_lightning").rglob("*.py"):
        assert names_in(path) & MISSING == set(), path


def test_a_terminal_that_knows_few_letters(tmp_path: Path) -> None:
    run = tmp_path / "lightning_logs/version_0"
    run.mkdir(parents=True)
    config = "model: {net: Æon}\ndata: {source: Shapes}\nseed_everything: 1\n"
    (run / "config.yaml").write_text(config, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "cifar_lightning", "compare"],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": PYTHONPATH, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "?on" in ended.stdout
