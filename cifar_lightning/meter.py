"""The light sums of training: loss and accuracy, step by step."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor

from cifar_lightning.errors import DivergedError
from cifar_lightning.processes.collectives import all_gather, all_reduce_sum, rank, world_size

_COUNTED_TOGETHER = 64  # batches


class LossAccuracyMeter:
    """Mean loss and top-1 accuracy over the images seen since the last reset.

    Training updates it at every step, which takes 8 µs. A torchmetrics object takes 59 to 84 for
    the same, and MeanMetric(nan_strategy="disable") loses the weights (1.9.0), so that a short last
    batch would count as much as a full one.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._loss = torch.zeros((), dtype=torch.float32)
        self._correct = torch.zeros((), dtype=torch.int64)
        self._images = 0

    def reset(self) -> None:
        self._waiting.clear()
        self._loss = torch.zeros_like(self._loss)
        self._correct = torch.zeros_like(self._correct)
        self._images = 0

    def to(self, device: torch.device) -> None:
        """Move the sums to the device of the batches to come."""
        self._loss, self._correct = self._loss.to(device), self._correct.to(device)

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean loss, float logits N×K and int64 labels N. Nothing is read back
        from the device."""
        if len(labels) == 0:
            return  # the mean loss of no images is not a number
        self._loss.add_(loss, alpha=len(labels))
        self._images += len(labels)
        # counted many at a time, which is faster; whole numbers add up to the same in any order
        self._waiting.append((logits, labels))
        if len(self._waiting) == _COUNTED_TOGETHER:
            self._count()

    def merge(self, other: "LossAccuracyMeter") -> None:
        """Add what another meter has seen."""
        other._count()
        self._loss.add_(other._loss)
        self._correct.add_(other._correct)
        self._images += other._images

    def total(self) -> "LossAccuracyMeter":
        """The sums over all processes, on the CPU; with one process these."""
        if world_size() == 1:
            return self
        total = LossAccuracyMeter()
        total.load(all_reduce_sum(self.values()))
        return total

    def values(self) -> list[float]:
        """Sum of the losses, correct answers and images: plain numbers, read from the device."""
        self._count()
        # one copy, of bits: Apple's GPUs have no type that holds both numbers exactly
        correct, loss = (
            self._correct.view(1).view(torch.int32),
            self._loss.view(1).view(torch.int32),
        )
        bits = torch.cat([correct, loss]).cpu()
        return [
            bits[2:].view(torch.float32).item(),
            bits[:2].view(torch.int64).item(),
            self._images,
        ]

    def load(self, values: Sequence[float]) -> None:
        """Take over what ``values`` has given."""
        self._waiting.clear()
        loss, correct, images = values
        self._loss = torch.tensor(loss, dtype=torch.float32, device=self._loss.device)
        self._correct = torch.tensor(int(correct), device=self._correct.device)
        self._images = int(images)

    def means(self, name: str) -> dict[str, Tensor]:
        """Mean loss and top-1 accuracy; the braces in ``name`` become ``loss`` and ``acc``."""
        self._count()
        return {
            name.format("loss"): self._loss / self._images,
            name.format("acc"): self._correct / self._images,
        }

    @property
    def images(self) -> int:
        """How many images were seen."""
        return self._images

    def _count(self) -> None:
        if self._waiting:
            logits, labels = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
            self._waiting.clear()
            self._correct.add_((logits.argmax(dim=1) == labels).sum())


class TrainingMeter:
    """What is logged of training: loss and accuracy since the last logged step (the window), and
    of the epoch so far.

    The window is each process's own until it is closed; the epoch is of all processes together.
    """

    def __init__(self) -> None:
        self.window = LossAccuracyMeter()
        self.epoch = LossAccuracyMeter()
        self._counted = -1  # the batch of the newest update
        self.is_log_step = False
        """Whether the step at hand is one of those that are logged."""
        self.step_metrics: dict[str, Tensor | float] = {}
        """What is logged of it; callbacks add theirs, up to their ``on_train_batch_end``."""

    def to(self, device: torch.device) -> None:
        self.window.to(device)
        self.epoch.to(device)

    def reset(self) -> None:
        """Begin an epoch."""
        self.window.reset()
        self.epoch.reset()

    def update(
        self, trainer: Trainer, batch_idx: int, loss: Tensor, logits: Tensor, labels: Tensor
    ) -> None:
        """Add a batch: its mean loss, float logits N×K and int64 labels N; at a step that is
        logged, close the window."""
        if batch_idx == self._counted:
            return  # L-BFGS asks for the loss of a batch several times
        self._counted = batch_idx
        self.window.update(loss, logits, labels)
        every = trainer.log_every_n_steps
        steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
        self.is_log_step = bool(steps and every and (trainer.global_step + 1) % every == 0)
        if self.is_log_step:
            self.step_metrics.update(self._close_window()[0])
            for optimizer in trainer.optimizers:
                self.step_metrics[f"lr-{type(optimizer).__name__}"] = optimizer.param_groups[0][
                    "lr"
                ]

    def read(self) -> None:
        """Make plain numbers of what is to be logged of the step at hand. The host waits for the
        device until that step is done, once: each number by itself would make it wait again."""
        tensors = {n: v.detach() for n, v in self.step_metrics.items() if isinstance(v, Tensor)}
        for device in {tensor.device for tensor in tensors.values()}:
            here = {n: v.reshape(()) for n, v in tensors.items() if v.device == device}
            numbers = torch.stack([*here.values()]).tolist()
            self.step_metrics.update(zip(here, numbers, strict=True))

    def log(self, trainer: Trainer) -> None:
        """Log the step at hand, if it is one of those that are. Raises DivergedError.

        Not by ``self.log``, which takes 0.4 ms a value (Lightning 2.6 looks through everything that
        belongs to the metric for tensors to move to a device).
        """
        self._counted = -1
        if not self.is_log_step:
            return
        self.read()
        values = {name: float(value) for name, value in self.step_metrics.items()}
        self.step_metrics.clear()
        _check_loss(values["train/loss"], trainer, trainer.global_step - 1)
        row = {**values, "epoch": trainer.current_epoch}
        for logger in trainer.loggers:
            logger.log_metrics(row, step=trainer.global_step - 1)
        known = {name: torch.tensor(value) for name, value in values.items()}
        trainer.callback_metrics.update(known)
        trainer.logged_metrics.update(known)

    def end_epoch(self, trainer: Trainer) -> dict[str, Tensor]:
        """``train/loss_epoch`` and ``train/acc_epoch``. Raises DivergedError."""
        means, images = self._close_window()
        if images:
            _check_loss(means["train/loss"], trainer, trainer.global_step)
        return self.epoch.means("train/{}_epoch")

    def state(self, trainer: Trainer) -> dict[str, Any]:
        """What a checkpoint holds of an unfinished epoch, asked of all processes together: plain
        numbers. Raises DivergedError: the checkpoint before is the last good one, and must stay."""
        windows = all_gather(self.window.values())
        _check_loss(sum(window[0] for window in windows), trainer, trainer.global_step)
        return {"windows": windows, "epoch": self.epoch.values()}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` has given, in this or another number of processes."""
        windows = state["windows"]
        if len(windows) != world_size():  # then it matters no more who has summed up what
            windows = [[sum(sums) for sums in zip(*windows, strict=True)]]
        self.window.load(windows[rank()] if rank() < len(windows) else (0, 0, 0))
        self.epoch.load(state["epoch"])

    def _close_window(self) -> tuple[dict[str, Tensor], int]:
        total = self.window.total()
        means, images = total.means("train/{}"), total.images
        self.epoch.merge(total)
        self.window.reset()
        return means, images


def _check_loss(loss: float | Tensor, trainer: Trainer, step: int) -> None:
    """Raises DivergedError. Asked now and then: reading a value stops a GPU's work."""
    if not math.isfinite(loss):
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        raise DivergedError(
            f"The training loss is no longer finite at step {step} with learning "
            f"rate {lr:g}: try a smaller --model.optimizer.lr."
        )


def gaps(means: dict[str, Tensor], now: dict[str, Tensor], smoothed: bool) -> dict[str, Tensor]:
    """By how much training images do better, where the metrics of validation are logged."""
    if "val/loss" not in now:
        return {}
    loss = {} if smoothed else {"gap/loss": now["val/loss"] - means["train/loss_epoch"]}
    return {**loss, "gap/acc": means["train/acc_epoch"] - now["val/acc"]}


def older_state(checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """The meter's state in a checkpoint of format 3 and before, where it was among the weights."""
    weights = checkpoint["state_dict"]
    sums = {n: weights.pop(n) for n in [*weights] if n.startswith(("window.", "epoch."))}
    if "window.loss" not in sums:
        return None
    window, epoch = (
        [float(sums[f"{part}.{name}"]) for name in ("loss", "right", "images")]
        for part in ("window", "epoch")
    )
    return {"windows": checkpoint.get("windows") or [window], "epoch": epoch}
