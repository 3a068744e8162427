"""Several processes: how they are started, and what is said when one of them fails."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import RUN, TINY, one_sentence, signal_at, succeeded
from program import PYTHONPATH, Command, Finished, Several, free_port


@pytest.mark.parametrize(
    "end", ["finished", "SIGTERM", pytest.param("one killed", marks=pytest.mark.slow)]
)
def test_started_by_the_command(end: str, command: Command, tmp_path: Path) -> None:
    # a callback that insists on a logger in every process
    flags: tuple[str, ...] = (*TINY, "--trainer.callbacks", "LearningRateMonitor")
    flags += ("--trainer.devices", "2", "--trainer.callbacks.logging_interval", "step")
    if end == "SIGTERM":
        flags += (*signal_at("on_train_batch_end", "SIGTERM", 9),)
    elif end == "one killed":
        flags += (*signal_at("on_train_batch_end", "SIGKILL", 9), "--trainer.callbacks.rank", "1")
    ended = command("fit", *flags, PYTHONPATH=PYTHONPATH)
    assert ended.status == {"finished": 0, "SIGTERM": 143, "one killed": 1}[end], ended
    assert ended.stderr.count("parameters, on cpu (32-true, ") == 1
    if end == "one killed":
        assert "process 1 (SIGKILL) has ended before its time" in one_sentence(ended)
    else:
        assert "Traceback" not in ended.stderr
        assert ended.stdout.count("epoch   1/3") == 1
    card = json.loads((tmp_path / RUN / "card.json").read_text())
    assert card["device"].startswith("2 × cpu")


TOGETHER = ("--trainer.callbacks", "stand_ins.LeavesLikeNCCL")


def test_all_leave_before_one_waits_for_another(command: Command) -> None:
    ended = command("fit", *TINY, *TOGETHER, "--trainer.devices", "2", PYTHONPATH=PYTHONPATH)
    assert ended.status == 0, ended
    assert ended.stdout.count("epoch   3/3") == 1
    assert "Error" not in ended.stderr


@pytest.mark.parametrize("rank", [0, 1])
def test_after_an_error_none_waits_for_the_others(rank: int, several: Several) -> None:
    fails = ("--trainer.callbacks+", "stand_ins.Fails", "--trainer.callbacks.rank", str(rank))
    flags = (*TINY, *TOGETHER, *fails, "--trainer.callbacks.kind", "UserError")
    ended = several(2, "fit", *flags, patience=60)
    assert [one.status for one in ended] == [1, 1]
    assert "the disk of this machine is on fire" in one_sentence(ended[rank])


def test_the_time_is_up_for_all_at_once(several: Several, tmp_path: Path) -> None:
    watch = ("--trainer.callbacks", "stand_ins.TimeIsUp", "--trainer.max_time", "00:10:00:00")
    assert succeeded(several(2, "fit", *TINY, *watch))
    summary = json.loads((tmp_path / RUN / "summary.json").read_text())
    assert summary["global_step"] == 11  # told after ten, heard a step later
    assert succeeded(several(2, "fit", "--ckpt_path", "last", "--trainer.callbacks", "null"))


@pytest.mark.slow
def test_torchrun(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    options = ["--master_port", str(free_port()), "-m", "cifar_lightning"]
    environ = {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}

    def torchrun(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *options, *argv], cwd=tmp_path, env=environ, capture_output=True, text=True
        )

    ended = torchrun("fit", *TINY, "--trainer.max_epochs", "1")
    assert ended.returncode == 0, ended
    assert ended.stdout.count("epoch   1/1") == 1
    ended = torchrun("fit", "--trainer.max_epochs", "0")
    # beside what torchrun says of it
    said = re.findall("(?m)^cifar_lightning: (.*)", ended.stderr)
    # once, by whichever of them torchrun lets speak first
    (sentence,) = said
    wrong = "--trainer.max_epochs 0 must be at least 1, or -1 for no end."
    assert sentence.removeprefix("process 1: ") == wrong, ended


def test_number_of_processes_must_be_known(several: Several, tmp_path: Path) -> None:
    ended = several(2, "fit", *TINY, "--trainer.devices", "1")
    assert [one.status for one in ended] == [2, 2]
    assert "2 processes were started, but the trainer was told of 1" in one_sentence(ended[0])
    assert one_sentence(ended[1]).startswith("process 1: ")  # they cannot know of each other
    assert not (tmp_path / "lightning_logs").exists()


@pytest.mark.parametrize("kind", ["UserError", "KeyError"])
@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_is_shown_once(rank: int, kind: str, several: Several, tmp_path: Path) -> None:
    fails = ("--trainer.callbacks", "stand_ins.Fails", "--trainer.callbacks.rank", str(rank))
    ended = several(2, "fit", *TINY, *fails, "--trainer.callbacks.kind", kind, patience=60)
    assert [one.status for one in ended] == [1, 1]
    assert ended[1 - rank].stderr.count("\n") == (1 if rank else 0), ended  # the run's first line
    said = ended[rank].stderr
    if kind == "UserError":
        who = "process 1: " if rank else ""
        assert one_sentence(ended[rank]) == f"{who}the disk of this machine is on fire."
    else:
        who = "process 1: " if rank else ""
        assert f"cifar_lightning: {who}KeyError: 'the disk" in said
        assert said.count("\nKeyError: 'the disk") == 1


def joined(ended: list[Finished]) -> Finished:
    """As if one process had said what all of them did."""
    return Finished(ended[0].status, "", "".join(one.stderr for one in ended))


def test_an_error_of_all_is_shown_once(several: Several, tmp_path: Path) -> None:
    flags = ("--model.optimizer", "SGD", "--model.optimizer.lr", "1e38")
    ended = several(2, "fit", *TINY, *flags, patience=60)
    assert [one.status for one in ended] == [1, 1]
    assert "no longer finite" in one_sentence(joined(ended))
    ended = several(2, "fit", *TINY, "--data.val_size", "300", patience=60)
    assert [one.status for one in ended] == [2, 2]
    assert "--data.val_size" in one_sentence(joined(ended))
