"""Promise: as fast as a hand-written loop, by the same mathematics."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, Command
from torch.nn import functional as F

from cifar_lightning import AlexNet
from cifar_lightning.bench import bench
from cifar_lightning.data import Shapes
from cifar_lightning.data.randomness import epoch_order, stratified_split


def test_losses_of_a_plain_loop(command: Command, tmp_path: Path) -> None:
    flags = ["--model.net", "AlexNet", "--trainer.log_every_n_steps", "1", "--data.batch_size",
             "5", "--trainer.max_epochs", "1"]  # fmt: skip
    assert command("fit", *TINY, *flags).status == 0
    with (tmp_path / "lightning_logs/version_0/metrics.csv").open() as file:
        logged = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    torch.manual_seed(42)
    net = AlexNet()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    images, labels = Shapes(300).load("train")
    train, _ = stratified_split(labels, 50, seed=42)
    order = train[epoch_order(len(train), seed=42, epoch=0)]
    losses = []
    for batch in order.split(5):
        pixels = [np.asarray(images[i], dtype=np.float32) / 255 for i in batch]
        one_by_one = torch.stack([torch.from_numpy((p - 0.5) / 0.5) for p in pixels])
        loss = F.cross_entropy(net(one_by_one.permute(0, 3, 1, 2)), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert len(losses) == len(logged) == 50
    assert logged == pytest.approx(losses, abs=1e-5)


def test_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_ROUNDS", 2)
    monkeypatch.setattr(bench, "_seconds", lambda program: 0.0)
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
    assert report["peak_memory_mb"]["process"] > 100
    assert report["seconds"]["validation"] > 0
    assert report["seconds"]["checkpoint"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]


@pytest.mark.slow
def test_a_compiled_network_is_the_same_network(command: Command, tmp_path: Path) -> None:
    flags = ["--model.net", "stand_ins.Convolution", "--trainer.log_every_n_steps", "1"]
    assert command("fit", *TINY, *flags).status == 0
    ended = command("fit", *TINY, *flags, "--model.compile", "default")
    assert ended.status == 0, ended.stderr
    runs = [tmp_path / f"lightning_logs/version_{number}" for number in (0, 1)]
    states = [
        torch.load(r / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for r in runs
    ]
    assert states[0].keys() == states[1].keys()
    for name, weight in states[0].items():
        assert torch.allclose(weight.float(), states[1][name].float(), atol=1e-5), name
    assert command("test", "--ckpt_path", str(runs[1] / "checkpoints/last.ckpt")).status == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_no_synchronisation_between_the_steps_that_are_logged(
    command: Command, tmp_path: Path
) -> None:
    gpu = ["--trainer.accelerator", "gpu", "--trainer.log_every_n_steps", "1000"]
    augmented = ["--data.flip", "true", "--data.translate", "2", "--data.cutout", "8"]
    watch = ["--trainer.callbacks", "stand_ins.NoSynchronisation", "--data.batch_size", "8"]
    ended = command("fit", *TINY, *gpu, *augmented, *watch)
    assert ended.status == 0, ended.stderr
