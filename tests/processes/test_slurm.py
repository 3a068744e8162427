"""SLURM: its variables, its signal before a job's time ends, and the job that is queued again."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from helpers import RUN, SCHEDULED, TINY, assert_equal, outcome, signal_at, succeeded
from program import Command, Several


@pytest.fixture
def scontrol(tmp_path: Path) -> str:
    """A ``PATH`` with a ``scontrol`` that notes what it is asked for in the file ``asked``."""
    program = tmp_path / "bin/scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def test_one_process(
    scontrol: str, command: Command, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    job = {
        "SLURM_JOB_ID": "71", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0", "SLURM_PROCID": "0",
        "SLURM_NODEID": "0", "SLURM_JOB_NAME": "train",
        "PATH": scontrol,
    }  # fmt: skip
    at = signal_at("on_train_batch_end", "SIGUSR1", 10)
    ended = command("fit", *TINY, *SCHEDULED, *at, **job)
    assert ended.status == 128 + signal.SIGUSR1, ended.stderr
    assert (tmp_path / "asked").read_text() == "requeue 71\n"
    # SLURM starts the same script again; only its environment tells that it is not the first time
    ended = command(
        "fit", *TINY, *SCHEDULED, "--trainer.callbacks", "null", **job, SLURM_RESTART_COUNT="1"
    )
    assert ended.status == 0, ended.stderr
    assert_equal(outcome(tmp_path / RUN), uninterrupted)


def test_two_processes(
    scontrol: str, several: Several, tmp_path: Path, two_uninterrupted: dict[str, Any]
) -> None:
    flags = (*TINY, *SCHEDULED, "--trainer.devices", "2")
    at = (*signal_at("on_train_batch_end", "SIGUSR1", 10), "--trainer.callbacks.rank", "1")
    ended = several(2, "fit", *flags, *at, by="slurm", PATH=scontrol)
    assert [one.status for one in ended] == [128 + signal.SIGUSR1] * 2, ended
    assert (tmp_path / "asked").read_text() == "requeue 72\n"
    again = (*flags, "--trainer.callbacks", "null")
    assert succeeded(several(2, "fit", *again, by="slurm", SLURM_RESTART_COUNT="1"))
    assert_equal(outcome(tmp_path / RUN), two_uninterrupted)
