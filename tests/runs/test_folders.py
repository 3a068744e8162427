"""Runs on disk: which one is meant, and who may write into it."""

import shutil
from pathlib import Path

import pytest
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


@pytest.mark.parametrize("name", ["test", "export"])
def test_a_newer_run_that_is_passed_over_is_named(name: str, command: Command, run: Path) -> None:
    logs = run.parent
    for number in (1, 2):
        (logs / f"version_{number}").mkdir()
    shutil.copytree(run, logs / "version_3")
    (best,) = logs.glob("version_3/checkpoints/epoch=*")
    best.unlink()
    ended = command(name, *(("--to", "model.safetensors") if name == "export" else ()))
    assert ended.status == 0, ended.stderr
    for part in (
        "version_3 is passed over: no epoch of it has been validated.",
        "version_2 (and 1 older) is passed over: it has no checkpoint.",
        f"lightning_logs/version_0/checkpoints/{best.name}",
    ):
        assert part in ended.stderr + ended.stdout
    shutil.rmtree(run)
    ended = command("test")
    assert ended.status == 1
    assert "has validated an epoch, so none has a best one" in one_sentence(ended)
