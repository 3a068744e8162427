"""What TensorBoard shows: values, not existence."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import RUN, TINY, events, net_weights
from program import Command
from stand_ins import Convolution
from tensorboard import program
from torch.nn import functional as F

from cifar_lightning import CIFAR10DataModule
from cifar_lightning.data import Shapes

SHAPES = Shapes(300).class_names
PICTURES = {
    f"pictures/{name}"
    for name in (
        "confusion matrix", "calibration", "most confident mistakes", "filters", "training batch",
    )
}  # fmt: skip

SCALARS = {
    "train/loss", "train/acc", "train/loss_epoch", "train/acc_epoch", "train/grad_norm",
    "val/loss", "val/acc", "gap/loss", "gap/acc", "lr-SGD", "best/val/acc", "epoch",
    "speed/images_per_second", "speed/seconds_per_epoch", *(f"val_acc/{name}" for name in SHAPES),
}  # fmt: skip


def trained(command: Command, folder: Path, *flags: str) -> Path:
    """A run with all of the dashboard, and its test."""
    net = ("--model.net", "stand_ins.Convolution", "--dashboard.pictures_every_n_epochs", "5")
    ended = command("fit", *TINY, *net, *flags, folder=folder)
    assert ended.status == 0, ended.stderr
    assert command("test", folder=folder).status == 0
    return max(folder.glob("lightning_logs/version_*"))


def test_every_tag_from_a_real_server(command: Command, tmp_path: Path) -> None:
    trained(command, tmp_path, "--dashboard.histograms", "true")
    server = program.TensorBoard()
    logs = str(tmp_path / "lightning_logs")
    server.configure([None, "--logdir", logs, "--port", "0", "--load_fast", "false"])
    url = server.launch()

    def ask(path: str, **question: Any) -> Any:
        body = json.dumps(question).encode() if question else None
        request = urllib.request.Request(
            f"{url}data/{path}", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def tags(plugin: str) -> set[str]:
        return set(ask(f"plugin/{plugin}/tags").get("version_0", {}))

    for _ in range(10_000):  # it reads the files while it already answers
        if "test/acc" in tags("scalars"):
            break
    assert tags("scalars") == {*SCALARS, "test/acc", "test/loss"}
    assert tags("images") == PICTURES
    assert {"weights/net.layers.0.weight", "gradients/net.layers.0.weight"} <= tags("histograms")
    assert ask("plugin/text/tags")["version_0"] == ["card/text_summary"]
    assert ask("plugin/graphs/info")["version_0"]["run_graph"] is True
    charts = ask("plugin/custom_scalars/layout")["category"][0]["chart"]
    assert [chart["title"] for chart in charts] == ["loss", "acc"]
    assert charts[0]["multiline"]["tag"] == ["^train/loss_epoch$", "^val/loss$"]
    experiment = ask("plugin/hparams/experiment", experimentName="")
    shown = {metric["name"]["tag"] for metric in experiment["metricInfos"]}
    assert shown == {"best/val/acc", "val/loss", "test/acc", "speed/seconds_per_epoch"}
    sessions = ask(
        "plugin/hparams/session_groups",
        experimentName="",
        allowedStatuses=["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
        colParams=[],
        startIndex=0,
        sliceSize=9,
    )["sessionGroups"]
    assert len(sessions) == 1
    chosen = sessions[0]["hparams"]
    assert {"lr": 0.01, "momentum": 0.9, "batch_size": 32.0, "seed": 42.0, "net": "Convolution",
            "optimizer": "SGD", "val_size": 50.0}.items() <= chosen.items()  # fmt: skip
    values = {m["name"]["tag"]: m["value"] for m in sessions[0]["metricValues"]}
    report = json.loads((tmp_path / RUN / "test_report.json").read_text())
    assert values["test/acc"] == pytest.approx(report["accuracy"])


def test_values(command: Command, tmp_path: Path) -> None:
    often = ("--trainer.val_check_interval", "4")  # of 8 batches
    run = trained(command, tmp_path, "--dashboard.pictures_every_n_epochs", "1", *often)
    log = events(run)
    value = {tag: log.Scalars(tag)[-1].value for tag in log.Tags()["scalars"]}
    data = CIFAR10DataModule(Shapes(300), batch_size=32, val_size=50)
    data.setup("fit")
    net = Convolution()
    net.load_state_dict(net_weights(run))
    right = torch.zeros(10)
    with torch.no_grad():
        for images, labels in data.val_dataloader():
            predictions = net(images).argmax(1)
            right += torch.bincount(labels[predictions == labels], minlength=10)
    for name, count in zip(SHAPES, right.tolist(), strict=True):
        assert value[f"val_acc/{name}"] == pytest.approx(count / 5)
    assert value["val/acc"] == pytest.approx(float(right.sum()) / 50)
    assert value["gap/acc"] == pytest.approx(value["train/acc_epoch"] - value["val/acc"])
    assert value["gap/loss"] == pytest.approx(value["val/loss"] - value["train/loss_epoch"])
    best = [entry.value for entry in log.Scalars("best/val/acc")]
    assert best == np.maximum.accumulate([e.value for e in log.Scalars("val/acc")]).tolist()
    assert len(log.Scalars("val/acc")) == 6
    for name in PICTURES:  # once an epoch
        at_start = 8 if name.endswith("training batch") else 0
        assert [e.step for e in log.Images(name)] == [8 - at_start, 16 - at_start, 24 - at_start]
    card = json.loads((run / "card.json").read_text())
    assert card["network"]["parameters"] == sum(p.numel() for p in net.parameters())
    assert card["data"]["source"] == "Shapes"
    assert card["command"].startswith("python -m cifar_lightning fit")


def test_gradient_norm(command: Command, tmp_path: Path) -> None:
    run = trained(
        command, tmp_path, "--trainer.max_epochs", "1", "--trainer.log_every_n_steps", "1"
    )
    data = CIFAR10DataModule(Shapes(300), batch_size=32, val_size=50)
    data.setup("fit")
    net = Convolution()
    first = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    net.load_state_dict({k[4:]: v for k, v in first["state_dict"].items() if k.startswith("net.")})
    # with momentum the last update is lr times the buffer: undo the steps to the last gradient
    momenta = [s["momentum_buffer"] for s in first["optimizer_states"][0]["state"].values()]
    with torch.no_grad():
        weights_first = sorted(net.parameters(), key=lambda p: p.ndim <= 1)
        for parameter, momentum in zip(weights_first, momenta, strict=True):
            parameter.add_(momentum, alpha=0.01)
    images, labels = list(data.train_dataloader())[-1]
    F.cross_entropy(net(images), labels).backward()
    gradients = [p.grad.flatten() for p in net.parameters() if p.grad is not None]
    norm = events(run).Scalars("train/grad_norm")[-1].value
    assert norm == pytest.approx(float(torch.cat(gradients).norm()), rel=1e-3)


def test_parts_can_be_left_out(command: Command, tmp_path: Path) -> None:
    parts = ["layout", "gradient_norm", "class_accuracy", "card", "hparams", "graph"]
    flags = [word for part in parts for word in (f"--dashboard.{part}", "false")]
    run = trained(command, tmp_path, *flags, "--dashboard.pictures_every_n_epochs", "0")
    log = events(run)
    assert log.Tags()["images"] == []
    assert log.Tags()["graph"] is False
    assert set(log.Tags()["tensors"]) == set()
    own = {"train/grad_norm", "best/val/acc", *(f"val_acc/{name}" for name in SHAPES)}
    assert set(log.Tags()["scalars"]) == {*SCALARS, "test/acc", "test/loss"} - own
    assert not (run / "card.json").exists()
