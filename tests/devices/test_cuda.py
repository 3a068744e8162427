"""NVIDIA's GPUs, pretended: nothing of two devices meets, and no step waits for the GPU."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from pretended import PretendedGPU
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from cifar_lightning import CIFAR10DataModule, ImageClassifier
from cifar_lightning.callbacks import AveragedWeights, CallbackList, EpochLine, Speed
from cifar_lightning.callbacks.collector import Collector
from cifar_lightning.callbacks.curves import ClassAccuracy, GradientNorm
from cifar_lightning.data import Shapes, batches
from cifar_lightning.models import AlexNet, LeNet5, ResNet18
from cifar_lightning.optimizers.muon import MuonSGD

STEPS, EVERY = 7, 3  # of an epoch; those that are logged
FAULTY = 1
"""The epoch in which the fault is."""

Fault = Callable[[ImageClassifier, Tensor], Any]
FAULTS: dict[str, Fault] = {
    "item": lambda model, loss: loss.item(),
    "a copy to the host": lambda model, loss: next(model.net.parameters()).detach().cpu(),
    "a copy from the host": lambda model, loss: torch.ones(3).to(loss.device),
    "a mask": lambda model, loss: (p := next(model.net.parameters()).detach())[p > 0],
    "an index on the host": lambda model, loss: next(model.net.parameters())[torch.tensor([0])],
    "a comparison": lambda model, loss: bool(loss > 1),
    "as many as there are": lambda model, loss: torch.nonzero(loss),
}
AUGMENTED = {"flip": True, "translate": 2, "cutout": 8, "jitter": 0.2}

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "32-true": {"data": AUGMENTED},
    "16-mixed": {"precision": "16-mixed"},
    "averaged": {"callbacks": [AveragedWeights]},
    "MuonSGD": {"precision": "bf16-mixed", "optimizer": MuonSGD},
    "plain": {},
    "bf16-mixed": {"precision": "bf16-mixed", "data": AUGMENTED},
    "bf16-true": {"precision": "bf16-true", "data": AUGMENTED},
    "16-true": {"precision": "16-true"},
    "accumulated": {"accumulate_grad_batches": 2},
    "clipped": {"gradient_clip_val": 1.0},
    "Adam": {"optimizer": torch.optim.AdamW},
    "AlexNet": {"net": AlexNet},
    "ResNet18": {"net": ResNet18},
}
IN_CI = dict(zip(("32-true", "16-mixed", "averaged", "MuonSGD"), FAULTS, strict=False))
"""A fault for each configuration: all configurations with all faults are slow."""


class Faulty(ImageClassifier):
    """Does in the steps of one epoch what it should not."""

    fault: Fault

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = super().training_step(batch, batch_idx)
        if self.current_epoch == FAULTY:
            self.fault(self, loss)
        return loss


class Phases(Callback):
    """Says which part of training is on; stands first."""

    def __init__(self, gpu: PretendedGPU) -> None:
        self._gpu = gpu
        self.plain_steps = 0

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, at: int) -> None:
        apart = (at + 1) % trainer.accumulate_grad_batches
        logged = not apart and (trainer.global_step + 1) % EVERY == 0
        kind = "logged" if logged else "first" if at == 0 else "last" if at == STEPS - 1 else "step"
        self._gpu.phase = f"{kind} {trainer.current_epoch}"
        self.plain_steps += self._gpu.phase == "step 0"

    def on_validation_start(self, trainer: Trainer, module: Any) -> None:
        self._gpu.phase = "validation"

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        self._gpu.phase = "end of an epoch"


def fit(gpu: PretendedGPU, fault: Fault, data: Any = None, callbacks: Any = (), **how: Any) -> int:
    """Train two epochs; gives the number of plain steps of the first."""
    module = CIFAR10DataModule(Shapes(200), batch_size=16, val_size=50, **(data or {}))
    optimizer = how.pop("optimizer", torch.optim.SGD)
    model = Faulty(how.pop("net", LeNet5)(), partial(optimizer, lr=0.01), label_smoothing=0.1)
    model.fault = lambda m, loss: fault(m, loss)
    parts = [EpochLine(), Speed(), Collector(), GradientNorm(), ClassAccuracy(module)]
    phases = Phases(gpu)
    trainer = Trainer(
        accelerator="cuda", devices=1, max_epochs=2, log_every_n_steps=EVERY, logger=False,
        callbacks=[phases, CallbackList(parts), *(make() for make in callbacks)],
        limit_train_batches=STEPS, limit_val_batches=2, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **how,
    )  # fmt: skip
    trainer.fit(model, datamodule=module)
    return phases.plain_steps


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        pytest.param(name, fault, marks=() if IN_CI.get(name) == fault else pytest.mark.slow)
        for name in CONFIGURATIONS
        for fault in FAULTS
    ],
)
def test_no_step_waits(name: str, fault: str) -> None:
    with PretendedGPU() as gpu:
        steps = fit(gpu, FAULTS[fault], **CONFIGURATIONS[name])
    waits = gpu.waits_in("step 0")
    if name == "16-mixed":  # torch's: whether a gradient is infinite decides if there is a step
        (who,) = waits
        assert "grad_scaler" in who
        assert waits.pop(who) == steps
    assert waits == {}
    logged = gpu.waits_in("logged 0")
    (at_once,) = [who for who in logged if "grad_scaler" not in who]
    assert logged[at_once] == STEPS // EVERY // CONFIGURATIONS[name].get(
        "accumulate_grad_batches", 1
    )
    found = gpu.waits_in("step 1")
    assert any("test_cuda.py" in who for who in found), found


@pytest.mark.filterwarnings("ignore")
def test_tensors_of_two_devices_do_not_meet() -> None:
    with PretendedGPU() as gpu, pytest.raises(RuntimeError, match="same device"):
        fit(gpu, lambda model, loss: loss + torch.ones(1))
    assert gpu.waits_in("step 0") == {}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("free", "at_once"), [(1 << 10, 1 << 26), (80 << 30, 1 << 26), (80 << 30, 3 * 16 * 12288)]
)
def test_images_that_do_not_fit_stay_on_the_host(
    free: int, at_once: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(batches, "_AT_ONCE", at_once)  # three batches, or all of an epoch
    caplog.set_level("INFO", logger="cifar_lightning")
    losses: list[Tensor] = []
    asked: list[Any] = []

    def has(device: Any = None) -> tuple[int, int]:
        asked.append(device)
        return free, 80 << 30

    with PretendedGPU() as gpu:
        monkeypatch.setattr("torch.cuda.mem_get_info", has)
        torch.manual_seed(0)
        fit(gpu, lambda model, loss: losses.append(loss.detach()), data=AUGMENTED)
    assert {*asked} == {torch.device("cuda", 0)}
    assert ("on the host" in caplog.text) == bool(gpu.pinned) == (free < 1 << 20)
    assert gpu.waits_in("step 0", "step 1", "first 1", "last 0") == {}
    SAME.setdefault("losses", [loss.content.tolist() for loss in losses])
    assert [loss.content.tolist() for loss in losses] == SAME["losses"]


SAME: dict[str, list[float]] = {}
"""The losses wherever the images are."""


@pytest.mark.filterwarnings("ignore")
def test_a_step_makes_no_images() -> None:
    kernels = []
    for data in ({}, AUGMENTED):
        with PretendedGPU() as gpu:
            steps = fit(gpu, lambda model, loss: None, data=data)
        kernels.append(gpu.kernels["step 0"] / steps)
    plain, augmented = kernels
    assert augmented < plain + 5  # 31 more where each batch is made for itself


@pytest.mark.filterwarnings("ignore")
def test_the_root_devices_generator_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[tuple[int, int]] = []

    def look(model: ImageClassifier, loss: Tensor) -> None:
        numbers.append((gpu.generator.seed or 0, torch.initial_seed()))

    with PretendedGPU() as gpu:
        monkeypatch.setattr("torch.cuda.current_device", lambda: 1)
        fit(gpu, look)
    assert all(ours == the_cpus for ours, the_cpus in numbers)
    assert len({ours for ours, _ in numbers}) == len(numbers) == STEPS
