"""The LightningModule: forward, the four steps, optimizer and schedule."""

import inspect
from typing import Any, Literal

from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

from cifar_lightning.data.batches import Share
from cifar_lightning.data.forms import images_and_labels, share_of_mean
from cifar_lightning.lightning_internals import (
    Module,
    has_trainer,
    is_made_by_cli,
    pass_batch_index,
    skip_idle_hooks,
)
from cifar_lightning.meter import TrainingMeter, gaps, older_state
from cifar_lightning.metrics import EvaluationMetrics, MetricCallable
from cifar_lightning.models import Network
from cifar_lightning.models.computing import Computing
from cifar_lightning.models.descriptions import compare_losses, is_description
from cifar_lightning.models.initialisation import kaiming_
from cifar_lightning.models.parts import check_choices, check_parts
from cifar_lightning.models.weights import Taken, start_from
from cifar_lightning.optimizers.parameters import Factory, fuse, make_optimizer
from cifar_lightning.schedules import Schedule

_METER, _LOSS, _FORMAT = "training_meter", "loss", "memory_format"  # entries in a checkpoint


class ImageClassifier(Module):
    """Trains a network to tell classes of images apart.

    A batch is (images, labels): float N×C×H×W, normalised, and int64 N. Of a ``Share`` all means
    are over the images of the whole batch.

    Logged: ``train/loss``, ``train/acc`` (means since the last time) and the learning rate, every
    ``log_every_n_steps``; of whole passes ``train/loss_epoch``, ``train/acc_epoch``, ``val/…`` and
    ``test/…``; ``gap/…``, by how much training images do better than validation images.
    A checkpoint of a run from Python holds no objects: ``load_from_checkpoint(path, net=...)``.

    Args:
        net: the network, from images to logits N×K.
        optimizer: makes the optimizer from the parameters. Only weights decay: biases and the
            scales of normalisation are no cause of overfitting.
        lr_scheduler: makes the learning-rate scheduler from the optimizer; none by default. With
            the interval "step", -1 for its T_max, total_iters or total_steps means all steps of
            the run that are left after the warm-up.
        lr_scheduler_interval: whether the scheduler steps after each epoch or each step.
        warmup: share of the run's steps in which the learning rate rises; for the interval "step".
        label_smoothing: share of each label that is spread evenly over all classes in training,
            https://arxiv.org/abs/1512.00567; belongs to the default loss.
        initialisation: "default" leaves the network's initial weights as they are; "kaiming" draws
            them for ReLUs.
        memory_format: the order of images and weights in memory; ``contiguous`` is channels first,
            ``auto`` what is fastest on the trainer's device. A checkpoint keeps it.
        compile: the mode of ``torch.compile``, which takes a minute and, on a CPU, a C++ compiler.
        flip_averaging: evaluate the mean logits of an image and its mirror image; named apart.
        loss: from logits N×K and labels N to a mean over the images; cross-entropy by default.
        metrics: further metrics of probabilities N×K and labels N, each made from the number of
            classes, as those of torchmetrics.classification are; logged as ``val/<class>``.
        weights: a checkpoint or saved ``state_dict`` that a new run starts from, where it fits.
        num_classes: K; by default the network's own ``num_classes``, 10 if it does not say.

    Raises:
        ValueError, TypeError: an argument is out of its range, or does not go with another.
    """

    takes_shares = True

    def __init__(
        self,
        net: Network | nn.Module,
        optimizer: OptimizerCallable = lambda params: SGD(params, lr=0.01, momentum=0.9),
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_scheduler_interval: Literal["epoch", "step"] = "epoch",
        warmup: float = 0.0,
        label_smoothing: float = 0.0,
        initialisation: Literal["default", "kaiming"] = "default",
        memory_format: Literal["auto", "channels_last", "contiguous"] = "auto",
        compile: Literal["default", "reduce-overhead", "max-autotune"] | None = None,
        flip_averaging: bool = False,
        loss: nn.Module | None = None,
        metrics: list[MetricCallable] | MetricCallable | None = None,
        weights: str | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        check_parts(net, loss, optimizer, num_classes, label_smoothing)
        check_choices(initialisation=initialisation, memory_format=memory_format)
        # From the command line these come as plain descriptions, by which load_from_checkpoint
        # makes them again. Objects would make a checkpoint that weights_only cannot read.
        objects = ["net", "loss", "optimizer", "lr_scheduler", "metrics"]
        self.save_hyperparameters(ignore=[] if is_made_by_cli() else objects, logger=False)
        self.net = net
        if initialisation == "kaiming":
            kaiming_(net)
        self.loss = nn.CrossEntropyLoss() if loss is None else loss
        self.label_smoothing, self.flip_averaging = label_smoothing, flip_averaging
        self._suffix = "_flip_averaged" if flip_averaging else ""
        self.computing = Computing(memory_format, compile)
        self._make_optimizer = Factory(_default_optimizer if optimizer is _OPTIMIZER else optimizer)
        self.lr: float | None = None  # in the place of the optimizer's, as lr_find sets it
        self._schedule = Schedule(lr_scheduler, lr_scheduler_interval, warmup)
        self.meter = TrainingMeter()
        classes = num_classes or int(getattr(net, "num_classes", 10))
        self.metrics = EvaluationMetrics(classes, metrics)
        self.weights = weights
        self.taken: Taken | None = None  # over from weights
        self.validated_at = -1  # the step of the newest validation

    def forward(self, images: Tensor) -> Tensor:
        """Logits N×K of normalised images N×C×H×W."""
        return self.computing(self.net, images)

    def training_step(self, batch: tuple[Any, ...], batch_idx: int) -> Tensor:
        images, labels = images_and_labels(batch)
        logits = self(images)
        loss = self.training_loss(logits, labels)
        if has_trainer(self):
            self.meter.update(self.trainer, batch_idx, loss.detach(), logits.detach(), labels)
        return share_of_mean(loss, logits, batch.of) if isinstance(batch, Share) else loss

    def validation_step(self, batch: tuple[Any, ...], batch_idx: int) -> Tensor:
        images, labels = images_and_labels(batch)
        logits = self._logits(images)
        self.metrics.update(self.loss(logits, labels), logits, labels)
        return logits

    test_step = validation_step

    def predict_step(self, batch: Tensor | tuple[Any, ...], batch_idx: int) -> Tensor:
        """Probabilities of the classes, float N×K. The batch may be images alone."""
        return self._logits(batch if isinstance(batch, Tensor) else batch[0]).softmax(dim=1)

    def training_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch, by smoothed labels if asked for."""
        if self.label_smoothing:
            return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        loss: Tensor = self.loss(logits, labels)
        return loss

    def configure_optimizers(self, steps: float | None = None) -> Any:
        """Optimizer and schedule for a run of so many steps; by default as many as it has."""
        if steps is None and self._schedule:
            # without a trainer only to see whether it can be made
            steps = self.trainer.estimated_stepping_batches if has_trainer(self) else 1000
        return self._schedule.of(fuse(self.new_optimizer(self.net)), steps or 0)

    def new_optimizer(self, net: nn.Module) -> Optimizer:
        """An optimizer of the parameters of a network and of the loss."""
        return make_optimizer(self._make_optimizer, net, self.loss, self.lr)

    def setup(self, stage: str) -> None:
        strategy = self.trainer.strategy
        self.computing.adapt(self.net, strategy.root_device, str(self.trainer.precision))

    def on_fit_start(self) -> None:
        if self.weights is not None and self.taken is None:
            self.taken = start_from(self.net, self.weights)
        self.computing.compile(self.net)
        skip_idle_hooks(self.trainer)
        pass_batch_index(self.trainer)

    def on_train_start(self) -> None:
        self.meter.to(self.device)

    def on_train_epoch_start(self) -> None:
        self.meter.reset()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.meter.log(self.trainer)

    def on_train_epoch_end(self) -> None:
        means = self.meter.end_epoch(self.trainer)
        self.log_dict(means)
        if self.validated_at == self.global_step:
            self.log_dict(gaps(means, self.trainer.callback_metrics, bool(self.label_smoothing)))

    def on_validation_epoch_start(self) -> None:
        self.metrics.reset(self.device)

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.metrics.compute(f"val/{{}}{self._suffix}"), prog_bar=True)
        self.validated_at = self.global_step

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.metrics.compute(f"test/{{}}{self._suffix}"))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[_METER] = self.meter.state(self.trainer)
        checkpoint[_LOSS] = type(self.loss).__name__
        checkpoint[_FORMAT] = self.computing.memory_format

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.weights = None  # it has some of its own now
        self.computing.restore(self.net, checkpoint.get(_FORMAT))
        if (state := checkpoint.get(_METER) or older_state(checkpoint)) is not None:
            self.meter.load(state)
        compare_losses(checkpoint.get(_LOSS), type(self.loss).__name__)
        # of load_from_checkpoint, which was given no objects for parts: its own checkpoints too
        described = checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY, {})
        if not has_trainer(self) and is_description(described):
            self.save_hyperparameters(described, logger=False)

    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self(images)
        return (logits + self(images.flip(-1))) / 2 if self.flip_averaging else logits


_OPTIMIZER = inspect.signature(ImageClassifier.__init__).parameters["optimizer"].default


def _default_optimizer(parameters: Any) -> Optimizer:
    """The default by a name: pickle takes no lambda, and the command line looks into one."""
    optimizer: Optimizer = _OPTIMIZER(parameters)
    return optimizer
