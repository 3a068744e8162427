"""Loggers of one's own join those of the run, and go on with it."""

import csv
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from helpers import RUN, TINY, events, one_sentence, rows
from program import Command

LOGGER = "--trainer.logger"
CSV = (LOGGER, "CSVLogger", f"{LOGGER}.save_dir", "by_hand")
ALL = (
    LOGGER, "stand_ins.Service",
    LOGGER, "stand_ins.Renamed", f"{LOGGER}.place", "renamed",
    LOGGER, "stand_ins.Forgetful",
    *CSV,
    LOGGER, "TensorBoardLogger", f"{LOGGER}.save_dir", "board",
)  # fmt: skip
ONE = ("--trainer.max_epochs", "1")
ON = ("fit", "--ckpt_path", "last", "--trainer.max_epochs", "2")


def logged(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_they_join_and_go_on(command: Command, tmp_path: Path) -> None:
    begun, run = tmp_path, tmp_path / RUN
    ended = command("fit", *TINY, *ONE, *ALL)
    assert ended.status == 0, ended.stderr
    assert "val/acc" in events(run).Tags()["scalars"]
    losses = [row["val/loss"] for row in rows(run / "metrics.csv") if row["val/loss"]]
    assert [line["val/loss"] for line in logged(begun / "service/run0.jsonl") if "val/loss" in line]
    told = json.loads((begun / "service/run0.json").read_text())
    assert told["model"]["optimizer"]["init_args"]["lr"] == 0.01
    assert "lr: 0.01" in (begun / "by_hand/lightning_logs/version_0/hparams.yaml").read_text()

    ended = command(*ON)
    assert ended.status == 0, ended.stderr
    assert "Service keeps the hyper-parameters that it had (changing a" in ended.stderr
    assert "Forgetful cannot be told where it was: it begins anew." in ended.stderr
    assert names(begun / "service") == {"run0.json", "run0.jsonl"}
    assert names(begun / "renamed") == {"run0.json", "run0.jsonl"}
    assert names(begun / "forgetful") == {"run0.json", "run0.jsonl", "run1.json", "run1.jsonl"}
    for folder in ("by_hand", "board"):
        assert names(begun / folder / "lightning_logs") == {"version_0"}
    with (begun / "by_hand/lightning_logs/version_0/metrics.csv").open() as file:
        theirs = [row["val/loss"] for row in csv.DictReader(file) if row["val/loss"]]
    assert len(theirs) == 2
    assert float(theirs[0]) == pytest.approx(float(losses[0]))
    assert "run0" not in (run / "config.yaml").read_text()

    shown = command("compare")
    assert "version_0" in shown.stdout


@pytest.mark.slow
def test_a_branch_and_another_place_begin_anew(command: Command, tmp_path: Path) -> None:
    assert command("fit", *TINY, *ONE, LOGGER, "stand_ins.Service").status == 0
    begun = tmp_path
    (best,) = (begun / RUN / "checkpoints").glob("epoch*.ckpt")
    kept = best.with_name("kept.ckpt")
    kept.write_bytes(best.read_bytes())
    elsewhere = (LOGGER, "stand_ins.Service", f"{LOGGER}.run_id", "mine")
    assert command(*ON, *elsewhere).status == 0
    assert names(begun / "service") == {"run0.json", "run0.jsonl", "mine.json", "mine.jsonl"}
    branched = command("fit", "--ckpt_path", str(kept), "--trainer.max_epochs", "2")
    assert "branches off" in branched.stderr
    assert {"run1.jsonl"} < names(begun / "service")


def test_without_loggers_there_is_what_compare_needs(command: Command, tmp_path: Path) -> None:
    monitor = ("--trainer.callbacks", "LearningRateMonitor")
    ended = command("fit", *TINY, *ONE, LOGGER, "false", *monitor)
    assert ended.status == 0, ended.stderr
    assert not list(tmp_path.rglob("events.out*"))
    assert rows(tmp_path / RUN / "metrics.csv")
    assert "version_0" in command("compare").stdout


def test_one_that_cannot_start_leaves_no_run(command: Command, tmp_path: Path) -> None:
    (tmp_path / "by_hand").write_text("a file")
    ended = command("fit", *TINY, *ONE, *CSV)
    assert ended.status == 1
    assert one_sentence(ended).startswith("--trainer.logger CSVLogger: ")
    assert not (tmp_path / "lightning_logs").exists()


@pytest.mark.slow
def test_weights_and_biases(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    flags = (LOGGER, "WandbLogger", f"{LOGGER}.offline", "true")
    assert command("fit", *TINY, *ONE, *flags).status == 0
    assert command(*ON).status == 0
    folders = [path.name for path in (tmp_path / "wandb").glob("offline-run-*")]
    assert len({name.rpartition("-")[2] for name in folders}) == 1


@pytest.mark.slow
def test_mlflow(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    flags = (LOGGER, "MLFlowLogger", f"{LOGGER}.tracking_uri", "sqlite:///mlflow.db")
    first = command("fit", *TINY, *ONE, *flags)
    assert first.status == 0, first.stderr
    again = command(*ON)
    assert again.status == 0, again.stderr
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert database.execute("select count(*) from runs").fetchone() == (1,)
        values = "select count(*) from metrics where key = 'val/loss'"
        assert database.execute(values).fetchone() == (2,)
        rate = "select value from params where key = 'model/optimizer/init_args/lr'"
        assert database.execute(rate).fetchone() == ("0.01",)
