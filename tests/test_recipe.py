"""The recipes: their mathematics against plain PyTorch, their schedules, their configs."""

import csv
import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY, Command
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.nn import functional as F

from cifar_lightning import AlexNet, ImageClassifier
from cifar_lightning.data import Shapes
from cifar_lightning.data.augmentation import Augmentation
from cifar_lightning.data.randomness import epoch_order, stratified_split
from cifar_lightning.models import ResNet18

CONFIGS = Path(__file__).parent.parent / "configs"
EVERY_STEP = ("--trainer.log_every_n_steps", "1")


def logged(run: Path, column: str) -> list[float]:
    with (run / "metrics.csv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file) if row.get(column)]


def test_losses_of_a_plain_loop_with_the_whole_recipe(command: Command, tmp_path: Path) -> None:
    flags = ["--config", str(CONFIGS / "fast.yaml"), "--data.cutout", "8", *EVERY_STEP]
    sizes = ["--data.batch_size", "8", "--model.net", "AlexNet", "--trainer.max_epochs", "1"]
    ended = command("fit", *flags, *TINY, *sizes, *EVERY_STEP)
    assert ended.status == 0, ended.stderr
    run = tmp_path / "lightning_logs/version_0"
    torch.manual_seed(42)
    net = AlexNet()
    for layer in (*net.features, *net.classifier):
        if hasattr(layer, "weight"):
            fan_in = layer.weight[0].numel()
            torch.nn.init.normal_(layer.weight, std=(2 / fan_in) ** 0.5)
            torch.nn.init.zeros_(layer.bias)
    images, labels = Shapes(300).load("train")
    train, _ = stratified_split(labels, 50, seed=42)
    order = train[epoch_order(len(train), seed=42, epoch=0)]
    augmentation = Augmentation(flip=True, translate=2, cutout=8)
    draws = augmentation.draws(len(order), 32, seed=42, epoch=0)
    velocity = [torch.zeros_like(p) for p in net.parameters()]
    losses = []
    rate = [(1 + step / 6 * 5) / 6 for step in range(6)] + [1 - step / 26 for step in range(26)]
    for step, (index, draw) in enumerate(zip(order.split(8), draws.split(8), strict=True)):
        pixels = (augmentation.move(images[index], draw).float() / 255 - 0.5) / 0.5
        batch = augmentation.blank(pixels.permute(0, 3, 1, 2), draw)
        logs = net(batch).log_softmax(dim=1)
        truth = F.one_hot(labels[index], 10) * 0.9 + 0.1 / 10
        loss = -(truth * logs).sum(dim=1).mean()
        net.zero_grad()
        loss.backward()
        losses.append(loss.item())
        with torch.no_grad():
            for p, v in zip(net.parameters(), velocity, strict=True):
                assert p.grad is not None
                gradient = p.grad + (5e-4 * p if p.ndim > 1 else 0)
                v.mul_(0.9).add_(gradient)
                p.sub_(0.05 * rate[step] * (gradient + 0.9 * v))
    assert logged(run, "lr-SGD") == pytest.approx([0.05 * r for r in rate], abs=1e-7)
    assert logged(run, "train/loss") == pytest.approx(losses, abs=1e-5)


COSINE = ("CosineAnnealingLR", "--model.lr_scheduler.T_max", "-1")
ONE_CYCLE = (
    "OneCycleLR", "--model.lr_scheduler.max_lr", "0.5", "--model.lr_scheduler.total_steps", "-1",
    "--model.lr_scheduler.pct_start", "0.25", "--model.lr_scheduler.anneal_strategy", "linear",
)  # fmt: skip


@pytest.mark.parametrize(
    ("schedule", "warmup", "peak", "first", "highest"),
    [(COSINE, "0.25", 6, 0.01 / 6, 0.01), (COSINE, "0", 0, 0.01, 0.01),
     (ONE_CYCLE, "0", 5, 0.02, 0.5)],
)  # fmt: skip
def test_schedules(
    schedule: tuple[str, ...], warmup: str, peak: int, first: float, highest: float,
    command: Command, tmp_path: Path,
) -> None:  # fmt: skip
    asked = ("--model.lr_scheduler", *schedule, "--model.lr_scheduler_interval", "step")
    ended = command("fit", *TINY, *asked, "--model.warmup", warmup, *EVERY_STEP)
    assert ended.status == 0, ended.stderr
    rates = logged(tmp_path / "lightning_logs/version_0", "lr-SGD")
    assert len(rates) == 24
    assert rates[0] == pytest.approx(first, rel=1e-4)
    assert max(rates) == rates[peak] == pytest.approx(highest, rel=1e-4)
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < highest / 50


def test_biases_and_scales_do_not_decay() -> None:
    model = ImageClassifier(
        ResNet18(), lambda params: torch.optim.SGD(params, lr=0.1, weight_decay=0.5)
    )
    before = {name: p.detach().clone() for name, p in model.net.named_parameters()}
    optimizer = model.new_optimizer(model.net)
    for p in model.net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.net.named_parameters():
        shrunk = 0.95 if p.ndim > 1 else 1.0
        assert torch.allclose(p, shrunk * before[name]), name


def test_decay_can_be_turned_on_when_a_run_goes_on(command: Command, tmp_path: Path) -> None:
    assert command("fit", *TINY).status == 0
    more = ("--trainer.max_epochs", "4", "--model.optimizer.weight_decay", "0.1")
    ended = command("fit", "--ckpt_path", "last", *more)
    assert ended.status == 0, ended.stderr
    last = tmp_path / "lightning_logs/version_0/checkpoints/last.ckpt"
    groups = torch.load(last, weights_only=True)["optimizer_states"][0]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.1, 0]


@pytest.mark.parametrize("config", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_each_config_trains_on_the_built_in_data(
    config: str, command: Command, tmp_path: Path
) -> None:
    content = yaml.safe_load((CONFIGS / config).read_text())
    val_size = content["data"].get("val_size", 50) and 50 if "data" in content else 50
    ended = command(
        "fit", "--config", str(CONFIGS / config), "--data.source", "Shapes",
        "--data.source.size", "150", "--data.val_size", str(val_size), "--data.batch_size", "4",
        "--trainer.max_epochs", "1", "--trainer.max_steps", "20", "--trainer.accelerator", "cpu",
        "--trainer.log_every_n_steps", "1", "--dashboard.pictures_every_n_epochs", "0",
        "--trainer.precision", "32-true",
    )  # fmt: skip
    assert ended.status == 0, ended.stderr
    losses = logged(tmp_path / "lightning_logs/version_0", "train/loss")
    assert len(losses) == 20
    assert all(math.isfinite(loss) for loss in losses)


def test_another_length_is_refused_where_the_schedule_spans_the_run(
    command: Command, tmp_path: Path
) -> None:
    asked = ("--model.lr_scheduler", *COSINE, "--model.lr_scheduler_interval", "step")
    assert command("fit", *TINY, *asked).status == 0
    ended = command("fit", "--ckpt_path", "last", "--trainer.max_epochs", "5")
    assert ended.status == 2
    assert "--trainer.max_epochs 5: the learning-rate schedule spans the" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_flip_averaging_is_told_apart(command: Command, tmp_path: Path) -> None:
    assert command("fit", *TINY).status == 0
    run = tmp_path / "lightning_logs/version_0"
    assert command("test").status == 0
    single = json.loads((run / "test_report.json").read_text())
    ended = command("test", "--model.flip_averaging", "true")
    assert ended.status == 0, ended.stderr
    assert "averaged over each image and its mirror image" in ended.stdout
    averaged = json.loads((run / "test_report_flip_averaged.json").read_text())
    assert averaged["flip_averaged"]
    assert not single["flip_averaged"]
    tags = EventAccumulator(str(run)).Reload().Tags()["scalars"]
    assert {"test/acc", "test/acc_flip_averaged"} <= set(tags)
    assert json.loads((run / "test_report.json").read_text()) == single
    ckpt = next(run.glob("checkpoints/epoch=*"))
    model = ImageClassifier.load_from_checkpoint(ckpt)
    images, labels = Shapes(300).load("test")
    pixels: Tensor = (images.float().permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.no_grad():
        logits = (model(pixels) + model(pixels.flip(3))) / 2
    right = (logits.argmax(dim=1) == labels).float().mean().item()
    assert averaged["accuracy"] == pytest.approx(right)
    assert single["accuracy"] != averaged["accuracy"]
    refused = command("fit", *TINY, "--model.flip_averaging", "true")
    assert refused.status == 2
    assert "--model.flip_averaging is for validate, test and predict" in refused.stderr
