"""A run that one may only read, a part of one, one from elsewhere: nothing is lost or confused."""

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import TINY, assert_equal, files, one_sentence, outcome
from PIL import Image
from program import Command

from cifar_lightning.runs.folders import find_checkpoint


@pytest.fixture
def theirs(run: Path, tmp_path: Path) -> Iterator[Path]:
    """The finished run, in a folder that can only be read."""
    moved = tmp_path / "their runs/lightning_logs/version_0"
    shutil.copytree(run, moved)
    shutil.rmtree(run.parent)
    paths = [moved.parent, moved, *moved.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield moved
    for path in paths:
        path.chmod(0o755)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


def test_results_go_into_a_folder_of_ones_own(command: Command, theirs: Path, mine: Path) -> None:
    before = files(theirs.parent)
    (mine / "pictures").mkdir()
    for name in ("test_calibration.png", "a.png"):
        Image.new("RGB", (32, 32), (200, 10, 10)).save(mine / "pictures" / name)
    expected = {
        ("test",): ("test_report.json", "test_calibration.png", "events.*.test"),
        ("predict",): ("predictions.csv",),
        ("predict", "--data.images", "pictures"): ("predictions.csv", "predictions.png"),
    }
    for (name, *more), written in expected.items():
        flags = (name, "--ckpt_path", str(theirs), *more)
        ended = command(*flags, folder=mine, obeys_permissions=True)
        assert ended.status == 0, ended
        (results,) = mine.glob("version_0-*")
        said = f"{theirs} can only be read (Permission denied): the results go into {results.name}."
        assert said in ended.stderr.splitlines()
        for pattern in written:
            (file,) = results.glob(pattern)
            assert file.stat().st_size > 0
        shutil.rmtree(results)
    ended = command("compare", str(theirs), folder=mine, obeys_permissions=True)
    assert ended.status == 0, ended
    assert "curves: compare.png" in ended.stdout
    assert (mine / "compare.png").exists()
    assert files(theirs.parent) == before


def test_where_nothing_can_be_written(command: Command, theirs: Path, mine: Path) -> None:
    mine.chmod(0o555)
    said = "cannot be written (Permission denied), nor can the current folder: results are printed"
    for name, line in (("test", "test accuracy      "), ("predict", "image,truth,prediction,")):
        ended = command(name, "--ckpt_path", str(theirs), folder=mine, obeys_permissions=True)
        assert ended.status == 0, ended
        assert f"{theirs} {said}" in ended.stderr
        assert [row for row in ended.stdout.splitlines() if row.startswith(line)]
    ended = command("compare", str(theirs), folder=mine, obeys_permissions=True)
    assert ended.status == 0, ended
    assert "version_0" in ended.stdout
    assert "no curves are drawn" in ended.stderr
    ended = command("compare", str(theirs), "--to", "my.png", folder=mine, obeys_permissions=True)
    assert "my.png cannot be written" in one_sentence(ended)
    flags = ("--ckpt_path", str(theirs), "--trainer.max_epochs", "4")
    ended = command("fit", *flags, folder=mine, obeys_permissions=True)
    assert "lightning_logs cannot hold a new run" in one_sentence(ended)
    assert list(mine.iterdir()) == []


def test_what_one_may_not_even_read(command: Command, theirs: Path, mine: Path) -> None:
    logs = theirs.parent
    logs.chmod(0o000)
    for flags in (
        ("test", "--ckpt_path", str(theirs)),
        ("fit", "--ckpt_path", "last", "--trainer.default_root_dir", str(logs.parent)),
        ("compare", "--logs", str(logs)),
        ("compare", str(theirs)),
    ):
        ended = command(*flags, folder=mine, obeys_permissions=True)
        assert "cannot be used (Permission denied)" in one_sentence(ended)
    assert list(mine.iterdir()) == []


def test_a_resumed_run_branches_off(command: Command, theirs: Path, mine: Path) -> None:
    before = files(theirs.parent)
    more = ("--trainer.max_epochs", "4")
    ended = command("fit", "--ckpt_path", str(theirs), *more, folder=mine, obeys_permissions=True)
    assert ended.status == 0, ended
    assert f"{theirs} can only be read (Permission denied): this run branches off" in ended.stderr
    assert files(theirs.parent) == before
    own = Path(shutil.copytree(theirs, mine / "own/lightning_logs/version_0"))
    for path in (own, *own.rglob("*")):
        path.chmod(0o755)
    assert command("fit", "--ckpt_path", str(own), *more, folder=mine).status == 0
    assert_equal(outcome(mine / "lightning_logs/version_0"), outcome(own))


def test_the_last_checkpoint_alone(command: Command, run: Path, tmp_path: Path) -> None:
    """Nothing that is not there is named, and the folder that it lies in is no run."""
    downloads = tmp_path / "downloads"
    (downloads / "checkpoints").mkdir(parents=True)
    shutil.copy(run / "checkpoints/last.ckpt", downloads / "checkpoints")
    shutil.rmtree(run.parent)
    best = "--checkpoints.monitor=val/acc"  # which no later epoch is better by
    flags = ("--ckpt_path", "downloads/checkpoints/last.ckpt", "--trainer.max_epochs", "4", best)
    ended = command("fit", *flags, "--model.optimizer.lr", "1e-9")
    assert ended.status == 0, ended
    assert list(downloads.rglob("*")) == [
        downloads / "checkpoints",
        downloads / "checkpoints/last.ckpt",
    ]
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("test it")]
    assert "its checkpoint is not in this run" in ended.stdout
    path = shlex.split(line)[-1]
    assert (tmp_path / path).is_file()
    assert path.startswith("lightning_logs/version_0/")


def test_the_folder_of_a_run(command: Command, run: Path, tmp_path: Path) -> None:
    (best,) = run.glob("checkpoints/epoch=*")
    for folder in (run, run / "checkpoints"):
        assert find_checkpoint(f"{folder}/", tmp_path).path == best
    ended = command("fit", "--ckpt_path", str(run), "--trainer.max_epochs", "4")
    assert f"Going on from {run}/checkpoints/last.ckpt" in ended.stderr
    (tmp_path / "empty").mkdir()
    sentence = one_sentence(command("test", "--ckpt_path", "empty"))
    assert "--ckpt_path empty: the run has no best checkpoint" in sentence


def test_a_run_from_python_is_not_best(command: Command, run: Path, tmp_path: Path) -> None:
    made = Path(shutil.copytree(run, run.with_name("version_1")))
    (made / "config.yaml").unlink()
    # and one whose checkpoint was not kept for its score
    lightnings = Path(shutil.copytree(run, run.with_name("version_2")))
    (best,) = lightnings.glob("checkpoints/epoch=*")
    best.rename(best.with_name("epoch=2-step=24.ckpt"))
    ended = command("test")
    assert ended.status == 0, ended
    assert "version_1 is passed over: it was made from Python" in ended.stderr
    assert "version_2 is passed over: no epoch of it has been validated" in ended.stderr
    assert "Testing lightning_logs/version_0/" in ended.stderr
    shutil.rmtree(run)
    shutil.rmtree(lightnings)
    ended = command("fit", "--ckpt_path", "last")
    assert "no run under lightning_logs has a checkpoint" in one_sentence(ended)


def test_a_network_that_was_not_trained(command: Command, run: Path) -> None:
    for name in ("validate", "test"):
        ended = command(name, "--ckpt_path", "null")
        assert ended.status == 2
        assert f"{name} takes a trained network" in one_sentence(ended)


def test_where_runs_are(command: Command, tmp_path: Path) -> None:
    for name in ("fit", "test"):
        ended = command(name, *TINY[:6], "--trainer.default_root_dir", "s3://bucket/runs")
        assert ended.status == 2
        assert "default_root_dir s3://bucket/runs: this is an address" in one_sentence(ended)
    assert not (tmp_path / "s3:").exists()
    home = {"HOME": str(tmp_path / "my home")}
    flags = (*TINY, "--trainer.max_epochs", "1", "--trainer.default_root_dir", "~/my runs")
    ended = command("fit", *flags, **home)
    assert ended.status == 0, ended
    run = tmp_path / "my home/my runs/lightning_logs/version_0"
    assert (run / "summary.json").exists()
    # what is printed can be typed, spaces and all
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("test it")]
    ended = command(*shlex.split(line)[shlex.split(line).index("test", 2) :], **home)
    assert ended.status == 0, ended
    assert (run / "test_report.json").exists()
    ended = command("compare", "--logs=~/my runs/lightning_logs", **home)
    assert ended.status == 0, ended
    assert (run.parent / "compare.png").exists()
