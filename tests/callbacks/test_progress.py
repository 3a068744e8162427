"""What the terminal shows of a run."""

import os
import pty
import termios
import threading
from contextlib import suppress
from pathlib import Path

from helpers import RUN, TINY
from program import Command


def test_an_epoch_without_validation_shows_none(command: Command) -> None:
    ended = command("fit", *TINY, "--trainer.check_val_every_n_epoch", "2")
    assert ended.status == 0, ended.stderr
    lines = [line for line in ended.stdout.splitlines() if line.startswith("epoch")]
    assert ["val loss" in line for line in lines] == [False, True, False]
    assert "(earlier, held-out training images)" in ended.stdout


def in_a_terminal(command: Command, *flags: str) -> str:
    """What a terminal is sent by a run."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, 200))
    shown = bytearray()

    def watch() -> None:
        with suppress(OSError):  # the other side is closed
            while part := os.read(ours, 4096):
                shown.extend(part)

    reader = threading.Thread(target=watch)
    reader.start()
    ended = command("fit", *TINY, *flags, terminal=os.ttyname(theirs))
    os.close(theirs)
    reader.join()
    os.close(ours)
    assert ended.status == 0, ended.stderr
    return shown.decode()


def test_a_terminal_has_a_bar(command: Command) -> None:
    flags = ("--trainer.accumulate_grad_batches", "2", "--trainer.log_every_n_steps", "2")
    text = in_a_terminal(command, *flags)
    for part in ("Epoch 2: 100%", "loss=", "acc=", "img/s=", "run=0:00:", " left", "val/acc="):
        assert part in text
    lines = [line for line in text.replace("\r", "\n").splitlines() if "epoch   1/3" in line]
    assert len(lines) == 1
    assert "Epoch 2" not in in_a_terminal(command, "--trainer.enable_progress_bar", "false")


def test_a_bar_of_one_s_own_takes_the_place_of_ours(command: Command) -> None:
    text = in_a_terminal(command, "--trainer.callbacks", "RichProgressBar")
    assert "Epoch 2/2" in text
    assert "img/s" not in text
    lines = [line for line in text.replace("\r", "\n").splitlines() if "epoch   1/3" in line]
    assert len(lines) == 1
    assert "best so far" in lines[0] or "lr 0.01" in lines[0]


def test_a_profiler_s_files_are_in_the_run_s_folder(command: Command, tmp_path: Path) -> None:
    logger = ("--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", ".",
              "--trainer.logger.name", "", "--trainer.logger.version", "")  # fmt: skip
    profiler = ("--trainer.profiler", "pytorch", "--trainer.max_epochs", "1")
    ended = command("fit", *TINY, *logger, *profiler)
    assert ended.status == 0, ended.stderr
    assert "Profiler Report" in ended.stdout + ended.stderr
    assert list((tmp_path / RUN).glob("*.pt.trace.json"))
    assert not list(tmp_path.glob("*.json"))
    for name in ("validate", "test", "predict"):
        profiler = ("--trainer.profiler", "SimpleProfiler", "--trainer.profiler.filename", "times")
        ended = command(name, *profiler)
        assert ended.status == 0, ended.stderr
        assert (tmp_path / RUN / f"{name}-times.txt").exists()
        assert not list(tmp_path.glob("*-times.txt"))
