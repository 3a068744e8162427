"""The LightningModule: loss, metrics, optimizer."""

import math
from functools import partial
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.core.mixins.hparams_mixin import _given_hyperparameters
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from cifar_lightning.errors import DivergedError
from cifar_lightning.metrics import LossAccuracyMeter
from cifar_lightning.models import Network
from cifar_lightning.models.initialisation import kaiming_
from cifar_lightning.processes.collectives import all_gather, rank, world_size
from cifar_lightning.schedules import make_schedule, spans_run

_WINDOW = ("window.loss", "window.right", "window.images")
_WINDOWS = "windows"  # entry of a checkpoint: these of each process, where there are several


class ImageClassifier(LightningModule):
    """Trains a network to tell classes of images apart.

    A batch is (images, labels): float N×C×H×W, normalised, and int64 N. The loss is the mean
    cross-entropy, in training against smoothed labels if asked for; the accuracy is top-1. Where
    processes share batches out, a third part is the number of images in the whole batch: all means
    are over those, gradients too.

    Logged: ``train/loss``, ``train/acc`` (means since the last time, every
    ``Trainer(log_every_n_steps)``) and the learning rate; ``train/loss_epoch``,
    ``train/acc_epoch``, ``val/…`` and ``test/…`` (means over the whole pass); ``gap/loss`` and
    ``gap/acc``, by how much training images do better than validation images (no ``gap/loss``
    with smoothed labels, whose losses are not comparable).

    Args:
        net: the network, from images to logits N×K.
        optimizer: makes the optimizer from the parameters. Weight decay applies to weights alone:
            biases and the scales of normalisation are no cause of overfitting.
        lr_scheduler: makes the learning-rate scheduler from the optimizer; none by default. With
            the interval "step", -1 for its T_max, total_iters or total_steps means all steps of
            the run that are left after the warm-up.
        lr_scheduler_interval: whether the scheduler steps after each epoch or each step.
        warmup: share of the run's steps in which the learning rate first rises linearly to the
            optimizer's; needs a scheduler with the interval "step".
        label_smoothing: share of each label that is spread evenly over all classes:
            https://arxiv.org/abs/1512.00567.
        initialisation: "default" leaves the network's initial weights as they are; "kaiming" draws
            them for ReLUs.
        compile: have ``torch.compile`` make the network's code, in this mode. Takes a minute before
            the first step and a C++ compiler on a CPU; the README says where it pays.
        flip_averaging: average the logits of an image and its mirror image when evaluating. Its
            metrics are named apart, ``test/acc_flip_averaged`` and so on.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        net: Network | nn.Module,
        optimizer: OptimizerCallable = lambda params: SGD(params, lr=0.01, momentum=0.9),
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_scheduler_interval: Literal["epoch", "step"] = "epoch",
        warmup: float = 0.0,
        label_smoothing: float = 0.0,
        initialisation: Literal["default", "kaiming"] = "default",
        compile: Literal["default", "reduce-overhead", "max-autotune"] | None = None,
        flip_averaging: bool = False,
    ) -> None:
        super().__init__()
        for name, share in (("warmup", warmup), ("label_smoothing", label_smoothing)):
            if not 0 <= share < 1:
                raise ValueError(f"model.{name} {share} must be at least 0 and below 1")
        if warmup and (lr_scheduler is None or lr_scheduler_interval != "step"):
            raise ValueError(
                "model.warmup needs a model.lr_scheduler and model.lr_scheduler_interval step"
            )
        arguments = lr_scheduler.keywords if isinstance(lr_scheduler, partial) else {}
        self.schedule_spans_run = bool(warmup) or spans_run(arguments)
        """Whether the learning-rate schedule needs to know how many steps the run has."""
        if self.schedule_spans_run and lr_scheduler_interval != "step":
            raise ValueError(
                "a length of -1, the run's steps, needs model.lr_scheduler_interval step"
            )
        # From the command line these come as plain descriptions, by which load_from_checkpoint
        # makes them again. Objects would make a checkpoint that weights_only cannot read.
        objects = [] if _given_hyperparameters.get() else ["net", "optimizer", "lr_scheduler"]
        self.save_hyperparameters(ignore=objects, logger=False)
        self.net = net
        if initialisation == "kaiming":
            kaiming_(net)
        self.label_smoothing = label_smoothing
        self.flip_averaging = flip_averaging
        self.compile_mode = compile
        self._warmup = warmup
        self._make_optimizer = optimizer
        self._make_lr_scheduler = lr_scheduler
        self._lr_scheduler_interval = lr_scheduler_interval
        self.validated_at = -1
        """The step of the newest validation; -1 before the first."""
        self.is_log_step = False
        """Whether the step at hand is one of those that are logged, from ``training_step`` on."""
        self.step_metrics: dict[str, Tensor | float] = {}
        """What is logged of it; callbacks add theirs, up to their ``on_train_batch_end``."""
        # What was summed up so far in an unfinished epoch belongs to the state of training: it
        # travels in the checkpoint's state_dict.
        self.window = LossAccuracyMeter(persistent=True)
        self.epoch = LossAccuracyMeter(persistent=True)
        self.evaluation = LossAccuracyMeter()
        # DDP would put the sums of process 0 into all others at every step
        self._ddp_params_and_buffers_to_ignore = [
            name for name, _ in self.named_buffers() if not name.startswith("net.")
        ]

    def forward(self, images: Tensor) -> Tensor:
        """Logits N×K of normalised images N×C×H×W."""
        logits: Tensor = self.net(images)
        # CUDA graphs put the next batch's results into the same memory
        return logits if self.compile_mode is None else logits.clone()

    def configure_optimizers(self) -> Any:
        optimizer = self.new_optimizer(self.net)
        if self._make_lr_scheduler is None:
            return optimizer
        # without a trainer only to see whether it can be made
        steps = 1000 if self._trainer is None else self._trainer.estimated_stepping_batches
        scheduler = make_schedule(self._make_lr_scheduler, optimizer, steps, self._warmup)
        config: dict[str, Any] = {"scheduler": scheduler, "interval": self._lr_scheduler_interval}
        if isinstance(scheduler, ReduceLROnPlateau):
            config["monitor"] = getattr(scheduler, "monitor", "val/loss")
        return {"optimizer": optimizer, "lr_scheduler": config}

    def new_optimizer(self, net: nn.Module) -> Optimizer:
        """An optimizer of a network's parameters, in two groups where it knows weight decay: those
        that decay, and biases and scales. Whether they do now is no matter of their number."""
        optimizer = self._make_optimizer(net.parameters())
        if "weight_decay" not in optimizer.defaults:
            return optimizer
        parameters = list(net.parameters())
        weights = [p for p in parameters if p.ndim > 1]
        vectors = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
        return self._make_optimizer([{"params": weights}, vectors])

    def on_fit_start(self) -> None:
        if self.compile_mode is not None:
            self.net.compile(mode=self.compile_mode)  # in place: names of weights stay

    def on_train_epoch_start(self) -> None:
        self.window.reset()
        self.epoch.reset()

    def training_step(self, batch: tuple[Any, ...], batch_idx: int) -> Tensor:
        images, labels, *whole = batch
        logits = self(images)
        if whole:
            loss = F.cross_entropy(
                logits, labels, label_smoothing=self.label_smoothing, reduction="sum"
            )
            mean = loss.detach() / max(len(labels), 1)
            # DDP divides the sum of the gradients by the number of processes, not of images
            loss = loss * (self.trainer.world_size / whole[0])
        else:
            loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
            mean = loss.detach()
        self.window.update(mean, logits.detach(), labels)
        self.is_log_step = self._shall_log(batch_idx)
        if self.is_log_step:
            self.step_metrics.update(self._close_window())
            for optimizer in self.trainer.optimizers:
                name = f"lr-{type(optimizer).__name__}"
                self.step_metrics[name] = optimizer.param_groups[0]["lr"]
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.is_log_step:
            # Not self.log, which takes 0.4 ms a value (Lightning 2.6: it looks through everything
            # that belongs to the metric for tensors to move to a device).
            values = {name: float(value) for name, value in self.step_metrics.items()}
            self.step_metrics.clear()
            trainer = self.trainer
            for logger in trainer.loggers:
                row = {**values, "epoch": trainer.current_epoch}
                logger.log_metrics(row, step=trainer.global_step - 1)
            known = {name: torch.tensor(value) for name, value in values.items()}
            trainer.callback_metrics.update(known)
            trainer.logged_metrics.update(known)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # sums of an unfinished epoch that other versions kept: of use to those alone
        own = {k: v for k, v in self.state_dict().items() if not k.startswith("net.")}
        theirs = checkpoint["state_dict"]
        known = {k: v for k, v in theirs.items() if k in own or k.startswith("net.")}
        checkpoint["state_dict"] = own | known
        windows = checkpoint.get(_WINDOWS)
        if windows is None:
            state = checkpoint["state_dict"]
            windows = [[float(state[name]) for name in _WINDOW]]
        if len(windows) != world_size():  # then it matters no more who has summed up what
            windows = [torch.tensor(windows, dtype=torch.float64).sum(dim=0).tolist()]
        mine = windows[rank()] if rank() < len(windows) else (0, 0, 0)
        for name, value in zip(_WINDOW, mine, strict=True):
            checkpoint["state_dict"][name] = torch.full_like(own[name], value)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        windows = all_gather(self.window.values.tolist())
        # the checkpoint before is the last good one: it must stay
        self._check_loss(sum(window[0] for window in windows))
        if world_size() > 1:
            checkpoint[_WINDOWS] = windows

    def on_train_epoch_end(self) -> None:
        self._close_window()
        means = self.epoch.means("train/{}_epoch")
        self.log_dict(means)
        if self.validated_at == self.global_step:
            now = self.trainer.callback_metrics
            if not self.label_smoothing:
                self.log("gap/loss", now["val/loss"] - means["train/loss_epoch"])
            self.log("gap/acc", means["train/acc_epoch"] - now["val/acc"])

    def on_validation_epoch_start(self) -> None:
        self.evaluation.reset()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.evaluation.total().means(self._named("val/{}")), prog_bar=True)
        self.validated_at = self.global_step

    def on_test_epoch_start(self) -> None:
        self.evaluation.reset()

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._evaluate(batch)

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.evaluation.total().means(self._named("test/{}")))

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Probabilities of the classes, float N×K."""
        images = batch[0]
        probabilities: Tensor = self._logits(images).softmax(dim=1)
        return probabilities

    def _evaluate(self, batch: tuple[Any, ...]) -> Tensor:
        images, labels = batch[:2]
        logits = self._logits(images)
        self.evaluation.update(F.cross_entropy(logits, labels), logits, labels)
        return logits

    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self(images)
        return (logits + self(images.flip(-1))) / 2 if self.flip_averaging else logits

    def _named(self, name: str) -> str:
        return name + "_flip_averaged" if self.flip_averaging else name

    def _shall_log(self, batch_idx: int) -> bool:
        trainer = self.trainer
        steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
        every = trainer.log_every_n_steps
        return bool(steps and every and (self.global_step + 1) % every == 0)

    def _check_loss(self, loss: float | Tensor) -> None:
        """Raises DivergedError. Asked now and then: reading a value stops a GPU's work."""
        if not math.isfinite(loss):
            lr = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise DivergedError(
                f"The training loss is no longer finite at step {self.global_step} with learning "
                f"rate {lr:g}: try a smaller --model.optimizer.lr."
            )

    def _close_window(self) -> dict[str, Tensor]:
        """Means of the window, which becomes a part of the epoch. Raises DivergedError."""
        total = self.window.total()
        means = total.means("train/{}")
        if total.images:
            self._check_loss(means["train/loss"])
        self.epoch.merge(total)
        self.window.reset()
        return means
