"""Promise: as fast as a hand-written loop, by the same mathematics."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import EVERY_STEP, RUN, TINY, last_state, logged
from program import Command
from torch.nn import functional as F

from cifar_lightning import AlexNet
from cifar_lightning.data import Shapes
from cifar_lightning.data.augmentation import Augmentation
from cifar_lightning.data.randomness import epoch_order, stratified_split

# of its own: what configs/ recommends may change
RECIPE = """
data: {flip: true, translate: 2, cutout: 8}
model:
  initialisation: kaiming
  label_smoothing: 0.1
  optimizer:
    class_path: torch.optim.SGD
    init_args: {lr: 0.05, momentum: 0.9, nesterov: true, weight_decay: 0.0005}
  warmup: 0.2
  lr_scheduler:
    class_path: torch.optim.lr_scheduler.LinearLR
    init_args: {start_factor: 1.0, end_factor: 0.0, total_iters: -1}
  lr_scheduler_interval: step
"""


def test_losses_of_a_plain_loop(command: Command, tmp_path: Path) -> None:
    flags = ["--model.net", "AlexNet", "--trainer.log_every_n_steps", "1", "--data.batch_size",
             "5", "--trainer.max_epochs", "1"]  # fmt: skip
    assert command("fit", *TINY, *flags).status == 0
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
    assert len(losses) == 50
    assert logged(tmp_path / RUN, "train/loss") == pytest.approx(losses, abs=1e-5)


def test_losses_of_a_plain_loop_with_the_whole_recipe(command: Command, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    # at this rate what rounding does is a hundred times as large after each step
    flags = ["--config", "recipe.yaml", "--model.memory_format", "contiguous", *EVERY_STEP]
    sizes = ["--data.batch_size", "8", "--model.net", "AlexNet", "--trainer.max_epochs", "1"]
    ended = command("fit", *TINY, *flags, *sizes)
    assert ended.status == 0, ended.stderr
    run = tmp_path / RUN
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
    draws = augmentation.draws(order, 0, side=32, seed=42)
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


@pytest.mark.slow
def test_a_compiled_network_is_the_same_network(command: Command, tmp_path: Path) -> None:
    flags = ["--model.net", "stand_ins.Convolution", "--trainer.log_every_n_steps", "1"]
    assert command("fit", *TINY, *flags).status == 0
    ended = command("fit", *TINY, *flags, "--model.compile", "default")
    assert ended.status == 0, ended.stderr
    runs = [tmp_path / f"lightning_logs/version_{number}" for number in (0, 1)]
    states = [last_state(run)["state_dict"] for run in runs]
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
    augmented += ["--data.jitter", "0.2"]
    watch = ["--trainer.callbacks", "stand_ins.NoSynchronisation", "--data.batch_size", "8"]
    ended = command("fit", *TINY, *gpu, *augmented, *watch)
    assert ended.status == 0, ended.stderr
