"""Runs on disk: which one is meant, and who may write into it."""

import shutil
from pathlib import Path

from filelock import FileLock
from helpers import TINY, assert_equal, files, one_sentence, outcome
from program import Command


def test_no_run_to_resume(command: Command, tmp_path: Path) -> None:
    for name in ("fit", "test"):
        ended = command(name, "--ckpt_path", "last")
        assert ended.status == 1
        assert "no run under lightning_logs has a checkpoint" in one_sentence(ended)
    assert not (tmp_path / "lightning_logs").exists()


def test_a_run_is_trained_by_one_process(command: Command, run: Path) -> None:
    with FileLock(run / ".lock"):
        ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "4")
    assert ended.status == 1
    assert "another process is training this run" in one_sentence(ended)


def test_an_older_checkpoint_branches_off(command: Command, tmp_path: Path) -> None:
    run, branch = (tmp_path / f"lightning_logs/version_{n}" for n in (0, 1))
    assert command("fit", *TINY, "--trainer.max_epochs", "1").status == 0
    kept = run / "checkpoints/kept.ckpt"
    shutil.copy(run / "checkpoints/last.ckpt", kept)
    more = ("--trainer.max_epochs", "3")
    assert command("fit", "--ckpt_path", "last", *more).status == 0
    before = files(run)
    ended = command("fit", "--ckpt_path", str(kept), *more)
    assert ended.status == 0, ended.stderr
    assert "this run branches off" in ended.stderr
    assert before == files(run)
    assert_equal(outcome(branch), outcome(run))
