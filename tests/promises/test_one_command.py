"""Promise: one command gives a result, and each further one takes up what is there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import RUN, TINY, logged, rows
from program import Command

from cifar_lightning.data import Shapes


def test_fit_leaves_a_run(command: Command, tmp_path: Path) -> None:
    ended = command("fit", *TINY)
    assert ended.status == 0, ended.stderr
    run = tmp_path / RUN
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["seed_everything"] == 42
    assert config["data"]["val_size"] == 50
    names = {"train/loss", "train/acc", "val/loss", "val/acc", "lr-SGD", "speed/images_per_second"}
    table = rows(run / "metrics.csv")
    assert names <= table[0].keys()
    steps = [int(row["step"]) for row in table if row["train/loss"]]
    assert steps == [2, 5, 8, 11, 14, 17, 20, 23]
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["epochs"], summary["global_step"]) == (3, 24)
    best = summary["best"]
    scores = logged(run, "val/acc")
    assert best["score"] == pytest.approx(max(scores))
    assert best["epoch"] == scores.index(max(scores))
    assert (run / best["checkpoint"]).exists()
    assert (run / "checkpoints/last.ckpt").exists()
    assert f"best           epoch {best['epoch'] + 1}" in ended.stdout
    assert len([line for line in ended.stdout.splitlines() if line.startswith("epoch")]) == 3
    assert "\r" not in ended.stdout + ended.stderr  # no terminal, no bar


def shown(name: str, table: str) -> float:
    found = re.search(rf"{name} +│ +([\d.]+)", table)
    assert found, table
    return float(found[1])


def test_evaluation_takes_everything_from_the_checkpoint(command: Command, run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    for arguments in (["validate"], ["validate", "--ckpt_path", "best"]):
        ended = command(*arguments)
        assert ended.status == 0, ended.stderr
        assert shown("val/acc", ended.stdout) == pytest.approx(summary["best"]["score"])
    last = command("validate", "--ckpt_path", "last")
    assert last.status == 0, last.stderr
    assert shown("val/loss", last.stdout) == pytest.approx(summary["metrics"]["val/loss"])
    test = command("test", "--ckpt_path", str(run / "checkpoints/last.ckpt"))
    assert test.status == 0, test.stderr
    assert "test accuracy" in test.stdout
    assert command("predict").status == 0
    table = rows(run / "predictions.csv")
    assert len(table) == 50
    right = sum(row["truth"] == row["prediction"] for row in table)
    assert right / 50 == pytest.approx(summary["best"]["score"])
    assert sum(float(table[0][name]) for name in Shapes().class_names) == pytest.approx(1, abs=1e-4)


def test_module_and_script_are_one_program() -> None:
    script = Path(sys.executable).with_name("cifar-lightning")
    texts = [
        subprocess.run(
            [*program, "fit", "--help"], capture_output=True, text=True, check=True
        ).stdout
        for program in ([sys.executable, "-m", "cifar_lightning"], [str(script)])
    ]
    assert texts[0] == texts[1]
    assert "--data.batch_size" in texts[0]
