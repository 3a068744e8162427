"""Muon and SGD in one optimizer, against both written out."""

import copy
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn
from torch.optim.lr_scheduler import LinearLR

from cifar_lightning import CIFAR10DataModule, ImageClassifier
from cifar_lightning.data import Shapes
from cifar_lightning.models import AlexNet, LeNet5
from cifar_lightning.optimizers import muon
from cifar_lightning.optimizers.muon import MuonSGD, orthogonalise
from cifar_lightning.optimizers.parameters import make_optimizer
from cifar_lightning.schedules import make_schedule

A, B, C = 3.4445, -4.7750, 2.0315
STEPS = 4


def network() -> nn.Sequential:
    """Hidden weights that are wide, square, tall, and of so many outputs that they are split."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3), nn.Conv2d(6, 30, 2), nn.Flatten(),
        nn.Linear(30, 30), nn.Linear(30, 70), nn.Linear(70, 5),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _bf16(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where hardware computes in it, which not every machine's does."""
    monkeypatch.setattr(muon, "computes_in_bf16", {"cpu": True}.__getitem__)
    muon._format.cache_clear()
    yield
    muon._format.cache_clear()


HIDDEN = ["1.weight", "2.weight", "4.weight", "5.weight"]


def gradient(of: Tensor, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(of.numel() * 10 + step)
    return torch.randn(of.shape, generator=generator)


def take_steps(net: nn.Module, optimizer: Any, steps: range) -> dict[str, Tensor]:
    for step in steps:
        for weight in net.parameters():
            weight.grad = gradient(weight, step)
        optimizer.step()
    return {name: weight.detach().clone() for name, weight in net.named_parameters()}


def near_orthogonal(x: Tensor, iterations: int) -> Tensor:
    """As Newton and Schulz write it, in double precision."""
    x = x.double() / x.double().norm()
    for _ in range(iterations):
        g = x @ x.T
        x = A * x + (B * g + C * g @ g) @ x
    return x


def written_out(
    net: nn.Module,
    lr: float,
    sgd_lr: float,
    momentum: float,
    decay: float,
    together: int,
    hidden: list[str],
    convolution_iterations: int = 3,
) -> dict[str, Tensor]:
    weights = {name: weight.detach().double() for name, weight in net.named_parameters()}
    buffers = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for step in range(STEPS):
        for name, weight in weights.items():
            slope = gradient(weight, step).double()
            buffers[name] = momentum * buffers[name] + slope
            update, rate = slope + momentum * buffers[name], sgd_lr
            if name in hidden:
                rate = lr
                blocks = torch.split(update.flatten(1), together)
                iterations = convolution_iterations if weight.ndim > 2 else 3
                moved = [near_orthogonal(b, iterations) * max(1, b.shape[0] / b.shape[1]) ** 0.5
                         for b in blocks]  # fmt: skip
                update = torch.cat(moved).view(weight.shape)
            shrunk = weight * (1 - rate * decay) if weight.ndim > 1 else weight
            weights[name] = shrunk - rate * update
    return weights


@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "more", [{}, {"first_layer": True}, {"last_layer": True}, {"convolution_iterations": 5}]
)
def test_as_written_out(momentum: float, layout: torch.memory_format, more: dict[str, Any]) -> None:
    hidden = ["0.weight"] * ("first_layer" in more) + HIDDEN + ["6.weight"] * ("last_layer" in more)
    iterations = more.get("convolution_iterations", 3)
    how: dict[str, Any] = {"lr": 0.02, "sgd_lr": 0.1, "momentum": momentum, "together": 35}
    net = network().to(memory_format=layout)
    start = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    expected = written_out(net, **how, decay=0.5, hidden=hidden, convolution_iterations=iterations)
    optimizer = MuonSGD(net.named_parameters(), **how, weight_decay=0.5, **more)
    ends = take_steps(net, optimizer, range(STEPS))
    for name, end in ends.items():
        way, should = end - start[name], (expected[name] - start[name]).float()
        # bfloat16 has two or three digits
        assert (way - should).norm() < (0.08 if name in hidden else 1e-5) * should.norm(), name


@pytest.mark.parametrize("shape", [(8, 50), (40, 40), (50, 8)])
@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
def test_every_number_of_iterations(shape: tuple[int, int], iterations: int) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    made = orthogonalise(matrix, iterations)
    wide = matrix if shape[0] <= shape[1] else matrix.T
    expected = near_orthogonal(wide, iterations)
    expected = expected if shape[0] <= shape[1] else expected.T
    assert made.dtype is torch.bfloat16
    assert (made - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("iterations", [8, 20])
def test_many_iterations_do_not_run_away(iterations: int) -> None:
    matrix = torch.randn(40, 90, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalise(matrix, iterations).float())
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_no_gradient_at_all_moves_nothing() -> None:
    assert torch.equal(orthogonalise(torch.zeros(3, 5), 3), torch.zeros(3, 5).bfloat16())
    net = network()
    optimizer = MuonSGD(net.named_parameters())
    before = copy.deepcopy(net.state_dict())
    optimizer.step()
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)


def test_who_gets_what() -> None:
    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scales = nn.Parameter(torch.ones(2, 2))

    for net, layers in ((AlexNet(), 8), (LeNet5(), 5)):
        loss = Loss()
        optimizer = make_optimizer(partial(MuonSGD, sgd_lr=0.3), net, loss)
        muon, matrices, vectors = optimizer.param_groups
        weights = [p for p in net.parameters() if p.ndim > 1]
        assert len(weights) == layers
        assert [id(p) for p in muon["params"]] == [id(p) for p in weights[1:-1]]
        assert [id(p) for p in matrices["params"]] == [
            *map(id, (weights[0], weights[-1], loss.scales))
        ]
        assert {p.ndim for p in vectors["params"]} == {1}
        assert [g["lr"] for g in optimizer.param_groups] == [0.02, 0.3, 0.3]


def test_a_saved_state_goes_on_with_the_same_bits() -> None:
    net = network()
    whole = take_steps(net, MuonSGD(net.named_parameters(), weight_decay=0.1), range(6))
    net = network()
    optimizer = MuonSGD(net.named_parameters(), weight_decay=0.1)
    take_steps(net, optimizer, range(3))
    saved = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
    net = network()
    net.load_state_dict(saved[0])
    optimizer = MuonSGD(net.named_parameters(), lr=1, momentum=0.1)
    optimizer.load_state_dict(saved[1])
    torch.testing.assert_close(take_steps(net, optimizer, range(3, 6)), whole, rtol=0, atol=0)


def test_a_schedule_moves_all_rates() -> None:
    optimizer = MuonSGD(network().named_parameters(), lr=0.02, sgd_lr=0.1)
    make = partial(LinearLR, start_factor=1.0, end_factor=0.0, total_iters=-1)
    schedule = make_schedule(make, optimizer, 10, 0.2)
    for factor in (0.5, 0.75, 1.0, 0.875):
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([0.02 * factor, 0.1 * factor, 0.1 * factor])
        optimizer.step()
        schedule.step()


@pytest.mark.filterwarnings("ignore")
def test_trains_in_bfloat16(tmp_path: Path) -> None:
    data = CIFAR10DataModule(Shapes(200), batch_size=20, val_size=50)
    torch.manual_seed(0)
    model = ImageClassifier(LeNet5(), partial(MuonSGD, sgd_lr=0.02))
    trainer = Trainer(
        accelerator="cpu", max_epochs=4, precision="bf16-mixed", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(model, datamodule=data)
    assert trainer.callback_metrics["val/loss"] < 2.2
    assert all(p.dtype is torch.float32 for p in model.parameters())


@pytest.mark.parametrize(
    "wrong", [{"lr": -1.0}, {"sgd_lr": -1.0}, {"momentum": 1.0}, {"weight_decay": -1.0},
              {"iterations": 0}, {"together": 0}, {"convolution_iterations": 0}],
)  # fmt: skip
def test_wrong_settings_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} .*must be at least"):
        MuonSGD(network().named_parameters(), **wrong)


def test_a_network_without_hidden_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="no layer between"):
        MuonSGD(nn.Linear(3, 2).named_parameters())


def test_fp32_where_bf16_would_be_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    for has, format in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(muon, "computes_in_bf16", {"cpu": has}.__getitem__)
        muon._format.cache_clear()
        result = muon.orthogonalise(torch.randn(8, 20), 5)
        assert result.dtype == format
        assert (torch.linalg.svdvals(result.float()) - 1).abs().max() < 0.5


def test_float64_where_the_weights_are() -> None:
    matrix = torch.randn(8, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(orthogonalise(matrix, 3), near_orthogonal(matrix, 3))
