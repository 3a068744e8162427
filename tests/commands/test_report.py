"""The report that ``test`` writes."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import probabilities_of
from PIL import Image
from program import Command
from torch.nn import functional as F

from cifar_lightning.data import Shapes


def test_report(command: Command, run: Path) -> None:
    ended = command("test")
    assert ended.status == 0, ended.stderr
    report = json.loads((run / "test_report.json").read_text())
    images, labels = Shapes(300).load("test")
    probabilities = probabilities_of(run, images)
    right = probabilities.argmax(1) == labels
    assert report["images"] == 60
    assert report["accuracy"] == pytest.approx(right.float().mean().item())
    assert report["loss"] == pytest.approx(F.nll_loss(probabilities.log(), labels).item())
    assert np.sum(report["confusion_matrix"]) == 60
    assert np.trace(report["confusion_matrix"]) == right.sum()
    star = Shapes(300).class_names.index("star")
    recall = right[labels == star].float().mean().item()
    assert report["classes"]["star"]["recall"] == pytest.approx(recall)
    assert report["classes"]["star"]["images"] == 6
    top5 = (probabilities.argsort(dim=1)[:, -5:] == labels[:, None]).any(dim=1)
    assert report["accuracy_top5"] == pytest.approx(top5.float().mean().item())
    assert f"top-5 accuracy     {report['accuracy_top5']:.2%}\n" in ended.stdout
    low, high = report["accuracy_95"]
    assert low < report["accuracy"] < high
    assert f"{report['accuracy']:.2%}  (95 % interval {low:.2%} to {high:.2%}" in ended.stdout
    assert len([line for line in ended.stdout.splitlines() if line.startswith("star")]) == 1
    for name in ("test_confusion_matrix.png", "test_calibration.png"):
        assert Image.open(run / name).width == 700


def test_results_of_test_outlive_the_run_going_on(command: Command, run: Path) -> None:
    assert command("test").status == 0
    assert command("test").status == 0
    assert len(list(run.glob("*.test"))) == 1
    assert command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "4").status == 0
    assert len(list(run.glob("*.test"))) == 1
