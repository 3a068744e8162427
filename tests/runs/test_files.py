"""Promise: what a run leaves on disk is whole, whatever happens while it is written."""

import json
import multiprocessing
from pathlib import Path

import pytest
import yaml
from helpers import TINY
from program import Command
from stand_ins import cut_off, kill_self, refuse

from cifar_lightning.errors import UserError
from cifar_lightning.runs.config import read_config, write_config


@pytest.mark.parametrize("how", ["killed", "refused"])
@pytest.mark.parametrize("name", ["card.json", "summary.json"])
def test_cut_off_in_a_new_run(name: str, how: str, command: Command, tmp_path: Path) -> None:
    cut = ("--trainer.callbacks", "stand_ins.CutWhileWriting")
    flags = ("--trainer.callbacks.name", name, "--trainer.callbacks.how", how)
    ended = command("fit", *TINY, "--trainer.max_epochs", "1", *cut, *flags)
    run = tmp_path / "lightning_logs/version_0"
    assert not (run / name).exists()
    if how == "killed":
        assert ended.status == -9
    else:
        assert ended.status == 1
        assert f"{name} cannot be written (No space left on device)" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert list(run.glob(".*.part")) == []


def test_killed_over_an_old_file(command: Command, tmp_path: Path) -> None:
    assert command("fit", *TINY, "--trainer.max_epochs", "1").status == 0
    path = tmp_path / "lightning_logs/version_0/summary.json"
    before = path.read_bytes()
    cut = ("--trainer.callbacks", "stand_ins.CutWhileWriting", "--trainer.callbacks.how", "killed")
    more = ("--ckpt_path", "last", "--trainer.max_epochs", "2")
    assert command("fit", *more, *cut, "--trainer.callbacks.name", path.name).status == -9
    assert path.read_bytes() == before
    # what was left half-written is in nobody's way
    again = ("--trainer.max_epochs", "3", "--trainer.callbacks", "null")
    assert command("fit", "--ckpt_path", "last", *again).status == 0
    assert json.loads(path.read_text())["epochs"] == 3
    assert list(path.parent.glob(".*.part")) == []


CONFIG = {"model": {"net": {"class_path": "a.B"}}, "data": {"source": {"class_path": "c.D"}}}


def test_config_that_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(tmp_path, CONFIG)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", Path.open)  # which takes it back at the end
        cut_off("config-resume-1.yaml", refuse)
        with pytest.raises(UserError, match=r"config-resume-1\.yaml cannot be written \(No space"):
            write_config(tmp_path, {**CONFIG, "seed_everything": 7})
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    assert read_config(tmp_path).content == CONFIG
    write_config(tmp_path, {**CONFIG, "seed_everything": 7})
    assert read_config(tmp_path).content["seed_everything"] == 7
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == CONFIG


def _killed_while_writing(folder: Path) -> None:
    cut_off("config.yaml", kill_self)
    write_config(folder, CONFIG)


def test_killed_while_writing_the_config(tmp_path: Path) -> None:
    process = multiprocessing.get_context("forkserver").Process(
        target=_killed_while_writing, args=(tmp_path,)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -9
    assert [path.name for path in tmp_path.iterdir()] == [".config.yaml.part"]
