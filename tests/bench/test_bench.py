"""``bench``: that its figures are what it says they are."""

import json
import sys
from pathlib import Path

import pytest
from helpers import TINY

from cifar_lightning.bench import bench, limit, whole_processes


def test_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_ROUNDS", 2)
    monkeypatch.setattr(limit, "_SECONDS", 0.0)
    monkeypatch.setattr(bench, "start_up", dict)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["cifar_lightning"])
    bench.bench([*TINY, "--data.batch_size", "10"])
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["network"] == "Tiny"
    assert report["batch_size"] == 10
    assert report["steps"] == 19  # of 25 batches, less those to warm up
    steps = report["step_ms"]
    assert [len(steps[name]["all"]) for name in ("limit", "article", "fit", "barebones")] == [2] * 4
    fits = steps["fit"]["all"]
    assert sum(report["anatomy_ms"].values()) == pytest.approx(steps["fit"]["median"])
    for name in ("limit", "article"):
        ratios = [ours / theirs for ours, theirs in zip(fits, steps[name]["all"], strict=True)]
        assert report[f"fit_to_{name}"]["all"] == pytest.approx(ratios)
        assert report[f"fit_to_{name}"]["median"] == pytest.approx(sum(ratios) / 2)
    tried = report["limit_tried_ms"]
    assert len(tried) == 8
    assert report["limit_is"] == min(tried, key=tried.get)
    product = report["matrix_product"]
    flops = product["share_of_fit"] * product["gflop_per_second"] * steps["fit"]["median"] / 1e3
    assert flops == pytest.approx(product["gflop_per_step"])
    assert report["peak_memory_mb"]["process"] > 100
    assert report["seconds"]["validation"] > 0
    assert report["seconds"]["checkpoint"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script in Python's place")
def test_a_process_that_fails_costs_its_own_figure_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ncase "$*" in *fit*) echo broken >&2; exit 3;; esac\n')
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    assert [*whole_processes.start_up()] == ["--help", "import pytorch_lightning.cli"]
    assert "process" not in whole_processes.peak_memory(str(tmp_path))
    assert caplog.messages == [
        "Not measured: fit --help ended with status 3 (broken).",
        "Not measured: fit ended with status 3 (broken).",
    ]
