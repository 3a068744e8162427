"""The report that ``test`` writes."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import RUN, TINY, probabilities_of
from PIL import Image
from program import Command
from torch.nn import functional as F

from cifar_lightning.data import Shapes

F1 = "torchmetrics.classification.MulticlassF1Score"


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


def test_metrics_of_ones_own(command: Command, tmp_path: Path) -> None:
    metrics = ("--model.metrics", "stand_ins.Confidence", "--model.metrics", F1)
    ended = command("fit", *TINY, "--trainer.max_epochs", "1", *metrics)
    assert ended.status == 0, ended
    run = tmp_path / RUN
    probabilities = probabilities_of(run, Shapes(300).load("test").images)
    confidence = probabilities.max(dim=1).values.mean().item()
    ended = command("validate")
    assert "val/Confidence" in ended.stdout
    ended = command("test")
    assert ended.status == 0, ended
    report = json.loads((run / "test_report.json").read_text())
    assert list(report["metrics"]) == ["Confidence", "MulticlassF1Score"]
    assert report["metrics"]["Confidence"] == pytest.approx(confidence, abs=1e-6)
    assert f"\nConfidence         {confidence:.4f}\n" in ended.stdout
    assert command("test", "--model.flip_averaging", "true").status == 0
    averaged = json.loads((run / "test_report_flip_averaged.json").read_text())["metrics"]
    assert averaged["Confidence"] != report["metrics"]["Confidence"]
    ended = command("compare", "--format", "json", "--sort", "test confidence")
    (row,) = json.loads(ended.stdout)
    assert row["test_Confidence_mean"] == pytest.approx(confidence, abs=1e-6)
    assert row["test_Confidence_n"] == 1
    ended = command("compare")
    assert "test Confidence" in ended.stdout
    assert f"{confidence:.4f}" in ended.stdout
